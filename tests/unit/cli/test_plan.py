"""Rules of `dualpool plan`."""

import json
import threading
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from extproc.cli import main
from extproc.config_file import load
from extproc.planning import estimates


@pytest.fixture(autouse=True)
def _few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimators learn from a tenth of the texts: most of the time of a plan goes there, and no rule here."""
    monkeypatch.setattr(estimates, "LEARNED", 300)
    monkeypatch.setattr(estimates, "TRIED", 200)


@pytest.fixture
def trace(tmp_path: Path) -> str:
    """A trace of mostly short requests over two minutes."""
    rows = [f"{t / 10},{5000 if t % 10 == 0 else 300},100" for t in range(1200)]
    path = tmp_path / "trace.csv"
    path.write_text("timestamp,prompt_tokens,completion_tokens\n" + "\n".join(rows) + "\n")
    return str(path)


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["plan", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_terminal_report(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The report leads with the answer, the baseline it is against, and the concurrency assumed."""
    code, out, _ = plan(capsys, trace, "--rate", "500", "--concurrency", "reserved")
    assert code == 0
    assert out.startswith("Splitting saves ")
    assert "against one pool at 65536" in out.splitlines()[0]
    assert "Assuming reserved concurrency. Under paged:" in out
    assert "vllm serve Llama-3-70B --tensor-parallel-size 8 --max-model-len" in out


@pytest.mark.parametrize(
    ("types", "flags", "assumed"),
    [
        ((), "", "weights in bfloat16, KV cache in bfloat16"),
        (
            ("--dtype", "fp8", "--kv-dtype", "fp8"),
            " --quantization fp8 --kv-cache-dtype fp8",
            "weights in fp8, KV cache in fp8",
        ),
        (
            ("--dtype", "int4"),
            "",
            "weights in int4 (a checkpoint of such weights: no flag of vLLM makes them), KV cache in bfloat16",
        ),
    ],
)
def test_types_are_part_of_the_instance(
    trace: str, capsys: pytest.CaptureFixture[str], types: tuple[str, ...], flags: str, assumed: str
) -> None:
    """The type of weights and KV is assumed in words, and in each pool's command where vLLM has a flag for it."""
    record = json.loads(plan(capsys, trace, "--rate", "500", "--threshold", "4096", "--json", *types)[1])
    assert all(f" --max-num-batched-tokens 2048{flags} --gpu-memory" in line for line in record["next"])
    assert assumed in record["assumptions"]


def test_context_beyond_what_the_model_was_trained_for(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A pool longer than the model's native context must be told how to scale positions, a shorter one not."""
    arguments = ("--rate", "500", "--threshold", "40960", "--model", "Qwen3-235B-A22B", "--json")
    short, long = json.loads(plan(capsys, trace, *arguments)[1])["next"]
    assert short.endswith(" instances: short")
    assert long.endswith("1 instance: long; needs --hf-overrides with YaRN rope scaling above 40960")


def test_json_report(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON report holds the curve, baselines, assumptions and sources."""
    code, out, _ = plan(capsys, trace, "--rate", "500", "--json", "--lengths", "2048,4096", "--present", "99")
    record = json.loads(out)
    assert code == 0
    assert [p["thresholds"] for p in record["curve"]] == [[2048], [4096]]
    present = record["baselines"][-1]
    assert present["label"] == "the present fleet of 99 instances"
    assert present["saved"] == pytest.approx(1 - record["chosen"]["gpus"] / present["gpus"])
    assert record["headline"].endswith(f"It saves {present['saved']:.1%} of the present fleet of 99 instances.")
    assert record["sources"]
    assert record["assumptions"]


def test_threshold_leaves_the_baselines_as_they_are(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What a given threshold is compared with is what every threshold is compared with."""
    options = (trace, "--rate", "500", "--caps", "exact", "--json")
    free = json.loads(plan(capsys, *options)[1])
    given = json.loads(plan(capsys, *options, "--threshold", "3000")[1])
    assert [p["thresholds"] for p in given["curve"]] == [[3000]]
    labels = [[base["label"] for base in record["baselines"]] for record in (free, given)]
    assert labels[0] == labels[1] == ["one pool at 65536", "one pool at 5120, the smallest that holds the traffic"]


def test_written_configuration_is_loaded_by_the_service(
    trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The configuration written has the chosen threshold and passes the service's own validation."""
    plan(capsys, trace, "--rate", "500", "--threshold", "3000", "--write-config", str(tmp_path / "out"))
    config = load(tmp_path / "out" / "dualpool.yaml", {})
    assert [(p.name, p.capacity) for p in config.pools["default"]] == [("short", 3000), ("long", 65536)]


def test_written_envoy_configuration_names_the_servers(
    trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Envoy's configuration has the endpoints given, and placeholders where none are."""
    arguments = (trace, "--rate", "500", "--threshold", "3000", "--write-config", str(tmp_path))
    assert plan(capsys, *arguments, "--endpoints", "short=10.0.0.1:8000,10.0.0.2:8000")[0] == 0
    text = (tmp_path / "envoy.yaml").read_text()
    assert "10.0.0.2" in text
    assert "long.vllm.internal" in text


def test_html_report_is_checked_by_simulation(
    trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The HTML report simulates the fleet it shows."""
    report = tmp_path / "report.html"
    code, out, _ = plan(capsys, trace, "--estimates", "exact", "--html", str(report), "--requests", "300")
    assert code == 0
    assert "Policies on the same arrivals" in out
    assert "300 simulated requests" in report.read_text()


def test_fleet_that_misses_its_objective_in_simulation_is_not_met(
    trace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fleet sized for a throughput that its instances do not have misses in simulation: said so, exit code 1."""
    measured = ("--throughput", "8192=50", "--throughput", "65536=50", "--threshold", "8192")
    options = ("--rate", "60", "--ttft", "5", "--estimates", "exact", *measured)
    assert plan(capsys, trace, *options)[0] == 0
    code, out, _ = plan(capsys, trace, *options, "--check", "--requests", "3000")
    assert code == 1
    assert "simulated, oracle routing" in out


def test_objective_that_is_missed(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A fleet that cannot meet its objective is reported so and the exit code is 1."""
    code, out, _ = plan(capsys, trace, "--rate", "500", "--ttft", "0.01")
    assert code == 1
    assert "NOT MET" in out


@pytest.mark.parametrize(("context", "share"), [("5000", "10"), ("5099", "10"), ("5100", None)])
def test_requests_longer_than_full_context_are_not_met(
    trace: str, capsys: pytest.CaptureFixture[str], context: str, share: str | None
) -> None:
    """A request in ten that every pool refuses is a fleet that does not meet its objective."""
    options = ("--rate", "500", "--caps", "exact", "--ttft", "60", "--threshold", "2048", "--json")
    code, out, _ = plan(capsys, trace, *options, "--max-model-len", context)
    record = json.loads(out)
    line = f"{share} % of requests need more than the full context of {context}: every pool refuses them; "
    line += "raise --max-model-len"
    assert (code, record["problems"]) == ((1, [line]) if share else (0, []))
    assert (line in record["assumptions"]) == bool(share)
    assert record["workload"]["refused"] == pytest.approx(0.1 if share else 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--threshold", "70000"],
            "--threshold: 70000: must be at least 16 and below --max-model-len 65536",
        ),
        (
            ["--pools", "3", "--threshold", "4096"],
            "--pools: 3: with --threshold there are two pools: leave out one of them",
        ),
        (["--lengths", "70000"], "--lengths: 70000: a threshold must be below --max-model-len 65536"),
        (["--price", "0"], "--price: 0: must be above 0 dollars per GPU and hour and at most 1e+18"),
        (["--price", "1e308"], "--price: 1e+308: must be above 0 dollars per GPU and hour and at most 1e+18"),
        (
            ["--throughput", "4096=1e-9", "--threshold", "4096"],
            "pool 4096: 9 requests/s at 1e-09 an instance and 0.85 utilisation need more than 10,000,000 instances",
        ),
        (["--tp", "3"], "--tp: 3: must divide the 64 attention heads of Llama-3-70B"),
        (["--requests", "50"], "--requests: is of a simulation: add --check or --html"),
        (["--endpoints", "short=a:1"], "--endpoints: goes with --write-config, which is not given"),
        (["--check", "--seed", "-1"], "--seed: -1: must not be negative"),
        (["--throughput", "8192=0tok"], "--throughput: 8192=0: must be above 0 tokens per second"),
        (["--throughput", "9000=1"], "--throughput: 9000: no pool with this max_model_len is looked at"),
        (["--throughput", "8192=0"], "--throughput: 8192=0: must be above 0 requests per second"),
        (["--throughput", "8192=x"], "--throughput: 'x': must be a number"),
        (["--rate", "nan"], "--rate: nan: must be a finite number"),
        (["--text-spread", "inf"], "--text-spread: inf: must be a finite number"),
        (["--max-model-len", "200000"], "--max-model-len: 200000: the context of Llama-3-70B is 131072"),
        (["--rate", "0"], "--rate: 0: must be at least 1e-09 requests per second"),
        (["--rate", "5e-324"], "--rate: 4.94066e-324: must be at least 1e-09 requests per second"),
        (["--max-num-batched-tokens", "0"], "--max-num-batched-tokens: 0: must be at least 1"),
        (
            ["--columns", "input=tokens"],
            "no column 'tokens'; there are: timestamp, prompt_tokens, completion_tokens",
        ),
        (
            ["--columns", "size=tokens"],
            "--columns: size=tokens: must be pairs of input, output, time, cap, bytes and a column name",
        ),
        (["--tp", "0"], "--tp: 0: must be at least 1"),
        (["--present", "0"], "--present: 0: must be at least 1 instance"),
        (["--spare", "-1"], "--spare: -1: must not be negative"),
        (["--bytes-per-token", "0"], "--bytes-per-token: 0: must be above 0"),
        (
            ["--threshold", "3000", "--write-config", "/proc/none"],
            "--write-config: /proc/none: cannot be written: No such file or directory",
        ),
        (
            ["--html", "/proc/none", "--requests", "10"],
            "--html: /proc/none: cannot be written: No such file or directory",
        ),
        (
            ["--write-config", "/proc/none", "--endpoints", "tiny=a:1"],
            "--endpoints: 'tiny': no such pool; there are short, long",
        ),
        (
            ["--write-config", "/proc/none", "--endpoints", "short"],
            "--endpoints: 'short': must be a pool's name, = and HOST:PORT, several with commas between; give "
            "the option once for each pool",
        ),
        (
            ["--write-config", "/proc/none", "--endpoints", "short=a:1", "--endpoints", "short=b:1"],
            "--endpoints: short: is there twice; give all servers of a pool at once",
        ),
        (["--throughput", "8192=5", "--throughput", "8192=6"], "--throughput: 8192: is there twice"),
        (["--lengths", "8"], "--lengths: 8: must be at least 16 tokens"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    trace: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Wrong input is answered with one line that names the option and the value."""
    code, out, err = plan(capsys, trace, *arguments)
    assert (code, out) == (2, "")
    assert err.endswith(message + "\n")
    assert err.count("\n") == 1


def test_measured_throughputs_size_the_pools(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What was measured at two contexts sizes the pools with those contexts, and the report says so."""
    measured = ("--throughput", "4096=10", "--throughput", "65536=2.5")
    loose = ("--rate", "500", "--poisson", "--threshold", "4096", "--utilisation", "0.8", "--ttft", "60")
    code, out, _ = plan(capsys, trace, *loose, *measured, "--json")
    record = json.loads(out)
    assert code == 0
    assert record["baselines"][0]["instances"] == 500 / (2.5 * 0.8)
    assert record["chosen"]["pools"][0]["measured"]
    assert any("max_model_len 4096: measured, 10 requests/s" in line for line in record["assumptions"])


def test_distributions_stand_alone(trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A distribution says no number of requests, so it is not added to a trace."""
    path = tmp_path / "cdf.json"
    path.write_text("[[0, 0], [1000, 0.9], [20000, 1.0]]")
    code, _, err = plan(capsys, trace, str(path), "--rate", "100")
    assert (code, err) == (2, "cdf.json: is a distribution without a number of requests: give it by itself\n")


def test_a_running_dualpool_is_asked_once_for_a_plan_by_every_output_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its budgets say nothing of output, on which the answer depends; and they go on growing."""
    page = 'dualpool_budget_tokens_bucket{le="1024"} 90\ndualpool_budget_tokens_bucket{le="+Inf"} 100\n'
    (tmp_path / "metrics").write_text(page)
    serve = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with HTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        code, out, err = plan(capsys, f"http://127.0.0.1:{server.server_port}/metrics", "--rate", "100")
        server.shutdown()
        thread.join()
    assert code == 0
    assert all(f"output {share}% of totals" in out for share in (10, 25, 50, 75))
    assert err.count("GET /metrics") == 1


def test_cdf_needs_a_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A distribution without times is planned for a given rate only."""
    path = tmp_path / "cdf.json"
    path.write_text("[[1000, 0.9], [20000, 1.0]]")
    assert plan(capsys, str(path))[0] == 2
    assert plan(capsys, str(path), "--rate", "100")[0] == 0


def test_a_file_is_named_as_it_is(tmp_path: Path, trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets in a name are no markup."""
    copy = Path(trace).rename(tmp_path / "trace[copy].csv")
    _, out, _ = plan(capsys, str(copy), "--threshold", "4096")
    assert "\ntrace[copy].csv: " in out
