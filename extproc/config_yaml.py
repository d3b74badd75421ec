"""Reads a YAML document; what is wrong with it is said without a word of its text, which may hold a password."""

import re
from typing import Any

import yaml

_QUOTED = re.compile(r"(alias|anchor|tag|tag handle) ['\"].*", re.DOTALL)
"""What PyYAML quotes of the text, more than a character: a password may begin like it, with one of `*&!`."""


class _Loader(yaml.SafeLoader):
    """Refuses a key that is written twice in one mapping: the second would win without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    twice = f"the key {key.value!r} is there twice"
                    raise yaml.MarkedYAMLError(problem=twice, problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception:  # PyYAML lets through what a tag runs into: `!!int ''` is an IndexError
            problem = f"the value is no {node.tag.rpartition(':')[2]}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None


def parse(text: bytes | str) -> Any:
    """Return the value of a YAML document. Raises `ValueError` with what is wrong when there is none."""
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise ValueError("is nested too deeply to be read") from None
    except yaml.MarkedYAMLError as error:
        parts = (error.context, error.context_mark), (error.problem, error.problem_mark)
        raise ValueError("is not YAML: " + ": ".join(_placed(what, mark) for what, mark in parts if what)) from None
    except yaml.reader.ReaderError as error:
        raise ValueError(f"is not YAML: {error.reason}, position {error.position}") from None
    except Exception:  # whatever else a document may do, a service that reads it again goes on
        raise ValueError("is not YAML") from None


def _placed(what: str, mark: yaml.Mark | None) -> str:
    where = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
    return _QUOTED.sub(r"\1", what) + where
