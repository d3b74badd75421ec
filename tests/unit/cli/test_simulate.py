"""Rules of `dualpool simulate`."""

import json
from pathlib import Path

import pytest

from extproc.cli import main
from extproc.planning.compare import POLICIES

SMALL = ("--concurrency", "reserved", "--requests", "400", "--threshold", "4096")


@pytest.fixture
def trace(tmp_path: Path) -> str:
    """A trace of mostly short requests over two minutes, ten a second."""
    rows = [f"{t / 10},{5000 if t % 10 == 0 else 300},{20 + t % 50}" for t in range(1200)]
    path = tmp_path / "trace.csv"
    path.write_text("timestamp,prompt_tokens,completion_tokens\n" + "\n".join(rows) + "\n")
    return str(path)


def simulate(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["simulate", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_policies_on_the_same_arrivals(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every policy is simulated on the same requests and reported by pool and for the fleet."""
    code, out, _ = simulate(capsys, trace, "--json", *SMALL)
    record = json.loads(out)
    assert code == 0
    assert [r["policy"] for r in record["policies"]] == list(POLICIES)
    assert {r["fleet"]["completed"] for r in record["policies"]} == {400}


def test_same_seed_same_bytes(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same command prints the same bytes, another seed does not."""
    runs = [simulate(capsys, trace, "--json", "--seed", seed, *SMALL)[1] for seed in ("5", "5", "6")]
    assert runs[0] == runs[1] != runs[2]


def test_replay_uses_the_trace_itself(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Replayed requests come at their own times: four hundred take forty seconds, half that at twice the rate."""
    _, out, _ = simulate(capsys, trace, "--json", "--replay", "--policies", "oracle", *SMALL)
    _, fast, _ = simulate(capsys, trace, "--json", "--replay", "--rate", "20", "--policies", "oracle", *SMALL)
    assert json.loads(out)["policies"][0]["seconds"] == pytest.approx(40, abs=5)
    assert json.loads(fast)["policies"][0]["seconds"] == pytest.approx(20, abs=5)


@pytest.mark.parametrize(("rate", "seconds"), [((), 60), (("--rate", "30"), 30)])
def test_replay_of_traces_that_are_not_equally_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rate: tuple[str, ...], seconds: float
) -> None:
    """Traces of 60 and 30 seconds are replayed in 60; at twice the requests a second in half of it."""
    paths = []
    for name, count in (("long", 600), ("short", 300)):
        rows = [f"{t / 10},300,20" for t in range(count)]
        paths.append(tmp_path / f"{name}.csv")
        paths[-1].write_text("timestamp,prompt_tokens,completion_tokens\n" + "\n".join(rows) + "\n")
    options = ("--json", "--replay", "--policies", "oracle", "--threshold", "4096", "--requests", "900")
    _, out, _ = simulate(capsys, *map(str, paths), *options, *rate)
    assert json.loads(out)["policies"][0]["span"] == pytest.approx(seconds, rel=0.01)


def test_replay_keeps_the_caps_that_are_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Requests alike but for their caps are not taken for one: every second asks for more than any pool holds."""
    path = tmp_path / "caps.csv"
    rows = [f"{t / 10},300,20,{70_000 if t % 2 else 100}" for t in range(400)]
    path.write_text("timestamp,prompt_tokens,completion_tokens,max_tokens\n" + "\n".join(rows) + "\n")
    _, out, _ = simulate(capsys, str(path), "--json", "--replay", "--policies", "oracle", *SMALL)
    assert json.loads(out)["policies"][0]["rejected"] == 200


def test_terminal_report(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The report names threshold, concurrency and seed, and lists every pool."""
    code, out, _ = simulate(capsys, trace, "--policies", "homogeneous,oracle", *SMALL)
    assert code == 0
    assert out.startswith("400 requests, reserved concurrency, threshold 4096, seed 1")
    assert "Policies on the same arrivals" in out


def test_what_others_miss_is_a_remark(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The service's own policies decide whether the objective is met, not the baseline and not the oracle."""
    options = ("--instances", "9,9,1", "--policies", "homogeneous,learned", "--ttft", "3", "--requests", "2000")
    code, out, _ = simulate(capsys, trace, "--rate", "60", *options)
    assert code == 0
    assert "NOT MET" not in out
    assert "simulated, homogeneous routing" in " ".join(out.split("Mind")[1].split())


def test_fleet_too_small_is_not_met(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A simulated fleet that misses its objective is said to, and the exit code is 1."""
    code, out, _ = simulate(
        capsys, trace, "--rate", "200", "--instances", "1,1,1", "--policies", "learned", "--ttft", "0.5", *SMALL
    )
    assert code == 1
    assert "NOT MET" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threshold", "65536"], "--threshold: 65536: must be at least 16 and below --max-model-len 65536"),
        (["--cv", "0"], "--cv: 0: must be above 0 and at most 100"),
        (
            ["--replay", "--cv", "5"],
            "--cv: goes with drawn arrivals, not with --replay, which has those of the trace",
        ),
        (["--cv", "inf"], "--cv: inf: must be above 0 and at most 100"),
        (["--cv", "1e200"], "--cv: 1e+200: must be above 0 and at most 100"),
        (["--requests", "1"], "--requests: 1: must be at least 2"),
        (["--instances", "1,2"], "--instances: '1,2': must be 3 numbers of at least 1"),
        (["--instances", "a,b,c"], "--instances: 'a,b,c': must be 3 numbers of at least 1"),
        (
            ["--policies", "best"],
            "--policies: 'best': must be among homogeneous, oracle, learned, learned+spillover, static",
        ),
        (
            ["--policies", "oracle, fastest"],
            "--policies: 'fastest': must be among homogeneous, oracle, learned, learned+spillover, static",
        ),
        (
            ["--policies", "oracle+spillover"],
            "--policies: 'oracle+spillover': must be among homogeneous, oracle, learned, learned+spillover, static",
        ),
        (["--text-spread", "1e300"], "--text-spread: 1e+300: must be 0 to 100"),
        (["--text-spread", "-1"], "--text-spread: -1: must be 0 to 100"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    trace: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Wrong input is answered with one line that names the option and the value."""
    code, out, err = simulate(capsys, trace, *arguments)
    assert (code, out, err) == (2, "", message + "\n")


def test_smallest_pools_are_found_by_simulation(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Planned and smallest simulated instances stand side by side for each policy."""
    code, out, _ = simulate(capsys, trace, "--smallest", "--policies", "oracle", *SMALL)
    assert code == 0
    assert "Smallest pools that meet the objective" in out
    assert "homogeneous" in out


def test_replay_needs_a_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A distribution has nothing to replay."""
    path = tmp_path / "cdf.json"
    path.write_text("[[1000, 0.9], [20000, 1.0]]")
    code, _, err = simulate(capsys, str(path), "--rate", "10", "--replay", *SMALL)
    assert code == 2
    assert err == "--replay: every source must be a trace of single requests with times\n"


@pytest.mark.parametrize("option", ["--lengths", "--price", "--spare"])
def test_what_is_of_a_plan_alone_is_no_option(trace: str, capsys: pytest.CaptureFixture[str], option: str) -> None:
    """One threshold is simulated, at no price, and no instance that is there to fail."""
    with pytest.raises(SystemExit):
        simulate(capsys, trace, option, "2")
    assert f"unrecognized arguments: {option} 2" in capsys.readouterr().err


def test_pools_that_cannot_meet_the_objective_are_not_called_the_smallest_that_do(
    trace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No number of instances prefills 5,000 tokens in 0.2 s: the pool with such prompts has no smallest size."""
    options = ("--smallest", "--policies", "oracle", "--ttft", "0.2")
    _, out, _ = simulate(capsys, trace, "--json", *options, *SMALL)
    one, two = (row for row in json.loads(out)["smallest"] if row["policy"] in ("homogeneous", "oracle"))
    assert [pool["simulated"] is None for pool in one["pools"] + two["pools"]] == [True, False, True]
    assert one["gpus"] is two["gpus"] is None
    _, out, _ = simulate(capsys, trace, *options, *SMALL)
    assert f"over {2 * one['pools'][0]['planned']}" in out


def test_requests_of_one_moment_cannot_be_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Times that are all the same have no rate, so that --rate could not make them faster or slower."""
    path = tmp_path / "same.csv"
    path.write_text("timestamp,prompt_tokens,completion_tokens\n" + "5,300,20\n" * 10)
    code, _, err = simulate(capsys, str(path), "--rate", "5", "--replay", *SMALL)
    assert code == 2
    assert err == (
        f"{path}: cannot be replayed: every request has the same time: leave --replay out and give --rate\n"
    )
