"""Where a configuration comes from (D11): defaults < file < environment < arguments."""

from __future__ import annotations

import os
from datetime import date, timedelta
from pathlib import Path

import pytest

from kessel_core import Config, InvalidConfig, JobManager, Problem, load_config
from kessel_core.config.origin import Argument
from kessel_core.config.showing import shown
from kessel_core.model.policies import OnExpired


def written(directory: Path, text: str, name: str = "kessel.toml") -> Path:
    path = directory / name
    path.write_text(text)
    return path


def problems(error: pytest.ExceptionInfo[InvalidConfig]) -> dict[str, str]:
    return {place(problem): problem.message for problem in error.value.problems}


def place(problem: Problem) -> str:
    return ": ".join(filter(None, (problem.origin, problem.path)))


def test_without_any_layer_everything_is_the_default(tmp_path: Path) -> None:
    loaded = load_config(environ={}, directory=tmp_path)
    assert loaded.config == Config()
    assert loaded.file is None
    assert {str(origin) for origin in loaded.origins.values()} == {"default"}


def test_file_overrides_default_environment_the_file_and_argument_the_environment(tmp_path: Path) -> None:
    written(tmp_path, "[kessel.worker]\nslots = 2\nprocesses = 2\ngrace = '2m'\n")
    loaded = load_config(
        environ={"KESSEL_WORKER_SLOTS": "3", "KESSEL_WORKER_PROCESSES": "3"},
        arguments={"worker.slots": Argument("4", "--slots")},
        directory=tmp_path,
    )
    worker = loaded.config.worker
    assert (worker.slots, worker.processes, worker.grace) == (4, 3, timedelta(minutes=2))
    origins = {name: str(loaded.origins[f"worker.{name}"]) for name in ("slots", "processes", "grace")}
    assert origins == {"slots": "--slots", "processes": "KESSEL_WORKER_PROCESSES", "grace": "kessel.toml"}


def test_every_kind_of_option_is_read_from_a_file(tmp_path: Path) -> None:
    written(
        tmp_path,
        """
        [kessel]
        adapter = "memory://"
        adapter_options = {path = "x", n = 3}
        queues = ["a", "b"]
        middleware = ["timing"]
        [kessel.middleware_options.logging]
        level = "debug"
        [kessel.handlers]
        addition = "app.handlers:add"
        [kessel.jobs]
        on_expired = "bury"
        retry_base = 0.5
        [kessel.plugins]
        disabled = ["x"]
        [kessel.logging]
        level = "TRACE"
        json = true
        """,
    )
    config = load_config(environ={}, directory=tmp_path).config
    assert config.adapter_options == {"path": "x", "n": 3}
    assert config.queues == ("a", "b")
    assert config.middleware_options == {"logging": {"level": "debug"}}
    assert config.handlers == {"addition": "app.handlers:add"}
    assert config.jobs.on_expired is OnExpired.BURY
    assert config.jobs.retry_base == timedelta(milliseconds=500)
    assert config.plugins.disabled == ("x",)
    assert (config.logging.level, config.logging.json) == ("trace", True)


def test_every_kind_of_option_is_read_from_the_environment(tmp_path: Path) -> None:
    environ = {
        "KESSEL_ADAPTER_OPTIONS": '{"n": 3}',
        "KESSEL_QUEUES": "a, b",
        "KESSEL_LOGGING_JSON": "yes",
        "KESSEL_JOBS_UNKNOWN_TYPE": "retry",
        "KESSEL_WORKER_HEARTBEAT": "500ms",
        "KESSEL_JOBS_MAX_ATTEMPTS": "7",
    }
    config = load_config(environ=environ, directory=tmp_path).config
    assert config.adapter_options == {"n": 3}
    assert config.queues == ("a", "b")
    assert config.logging.json is True
    assert config.jobs.unknown_type == "retry"
    assert config.worker.heartbeat == timedelta(milliseconds=500)
    assert config.jobs.max_attempts == 7


def test_a_file_may_begin_with_the_mark_that_some_editors_write(tmp_path: Path) -> None:
    (tmp_path / "kessel.toml").write_bytes(b"\xef\xbb\xbf[kessel.worker]\nslots = 5\n")
    assert load_config(environ={}, directory=tmp_path).config.worker.slots == 5


def test_pyproject_table_is_used_when_there_is_no_kessel_toml(tmp_path: Path) -> None:
    written(tmp_path, "[tool.kessel.worker]\nslots = 5\n", "pyproject.toml")
    loaded = load_config(environ={}, directory=tmp_path)
    assert (loaded.config.worker.slots, str(loaded.file)) == (5, "pyproject.toml")
    written(tmp_path, "[kessel.worker]\nslots = 6\n")
    assert load_config(environ={}, directory=tmp_path).config.worker.slots == 6


def test_pyproject_of_another_tool_is_left_alone(tmp_path: Path) -> None:
    written(tmp_path, "[tool.black]\nline-length = 110\n", "pyproject.toml")
    assert load_config(environ={}, directory=tmp_path).file is None


def test_a_pyproject_that_is_named_and_has_no_table_of_kessel_is_refused(tmp_path: Path) -> None:
    """Jobs would go where the defaults say, and not where the file was meant to send them."""
    written(tmp_path, "[tool.kesel]\nadapter = 'memory://'\n", "pyproject.toml")
    with pytest.raises(InvalidConfig, match=r"tool\.kessel: there is no such table"):
        load_config("pyproject.toml", environ={}, directory=tmp_path)


def test_file_is_named_by_argument_or_else_by_environment(tmp_path: Path) -> None:
    written(tmp_path, "[kessel.worker]\nslots = 2\n", "one.toml")
    written(tmp_path, "[kessel.worker]\nslots = 3\n", "two.toml")
    environ = {"KESSEL_CONFIG": "two.toml"}
    assert load_config(environ=environ, directory=tmp_path).config.worker.slots == 3
    assert load_config("one.toml", environ=environ, directory=tmp_path).config.worker.slots == 2


def test_file_may_be_named_by_a_path(tmp_path: Path) -> None:
    path = written(tmp_path, "[kessel]\nadapter = 'memory://'", "own.toml")
    assert load_config(path, environ={}).config.adapter == "memory://"
    assert JobManager.from_config(path, environ={}).config.adapter == "memory://"


def test_no_file_is_named_by_the_null_device(tmp_path: Path) -> None:
    written(tmp_path, "[kessel.worker]\nslots = 2\n")
    assert load_config(os.devnull, environ={}, directory=tmp_path).config == Config()


def test_all_problems_of_all_layers_are_listed_with_their_origins(tmp_path: Path) -> None:
    written(
        tmp_path,
        """
        [kessel]
        adaptor = "memory://"
        queues = []
        [kessel.worker]
        slots = 0
        [kessel.jobs]
        on_expired = "drop"
        retry_base = "soon"
        """,
    )
    with pytest.raises(InvalidConfig) as error:
        load_config(
            environ={"KESSEL_WORKER_PROCESSES": "many", "KESSEL_WORKER_SLOT": "2"},
            arguments={"worker.grace": Argument("-3s", "--grace")},
            directory=tmp_path,
        )
    found = problems(error)
    assert set(found) == {
        "kessel.toml: adaptor",
        "kessel.toml: queues",
        "kessel.toml: worker.slots",
        "kessel.toml: jobs.on_expired",
        "kessel.toml: jobs.retry_base",
        "KESSEL_WORKER_PROCESSES",
        "KESSEL_WORKER_SLOT",
        "--grace",
    }
    assert "did you mean 'adapter'?" in found["kessel.toml: adaptor"]
    assert "did you mean 'KESSEL_WORKER_SLOTS'?" in found["KESSEL_WORKER_SLOT"]


@pytest.mark.parametrize(
    ("text", "where", "hint"),
    [
        ("[kessel.workers]\nslots = 2", "kessel.toml: workers", "'worker'"),
        ("[kessel.worker]\nslot = 2", "kessel.toml: worker.slot", "'worker.slots'"),
        ("[kessel]\nslots = 2", "kessel.toml: slots", "'worker.slots'"),
        ("[kessel.worker]\nmax-attempts = 2", "kessel.toml: worker['max-attempts']", "'jobs.max_attempts'"),
        ("[kesel]\nqueues = ['a']", "kessel.toml: kesel", "'kessel'"),
        ("[worker]\nslots = 2", "kessel.toml: worker", "under [kessel]"),
        ("[tool.kessel]\nqueues = ['a']", "kessel.toml: tool", "under [kessel]"),
    ],
)
def test_misspelt_option_gets_the_nearest_name(tmp_path: Path, text: str, where: str, hint: str) -> None:
    written(tmp_path, text)
    with pytest.raises(InvalidConfig) as error:
        load_config(environ={}, directory=tmp_path)
    assert hint in problems(error)[where]


@pytest.mark.parametrize("name", ["sentry", "storage", "sessions", "routing", "json", "prometeus"])
def test_a_section_of_a_plugin_may_be_a_little_like_an_option(tmp_path: Path, name: str) -> None:
    """Whether a plugin has it is not known yet; it was refused as a misspelt `history` or `store`."""
    written(tmp_path, f"[kessel.{name}]\nx = 1\n")
    assert load_config(environ={}, directory=tmp_path).config.sections == {name: {"x": 1}}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[kessel]\nworker = 3", "kessel.toml: worker"),
        ("kessel = 3", "kessel.toml: kessel"),
        ("[kessel.worker]\nslots = '2'", "kessel.toml: worker.slots"),
        ("[kessel.worker]\nslots = true", "kessel.toml: worker.slots"),
        ("[kessel.worker]\ngrace = 1e300", "kessel.toml: worker.grace"),
        ("[kessel.worker]\ngrace = nan", "kessel.toml: worker.grace"),
        ("[kessel.worker]\ngrace = []", "kessel.toml: worker.grace"),
        ("[kessel]\nqueues = 'a'", "kessel.toml: queues"),
        ("[kessel]\nqueues = ['a', 'a']", "kessel.toml: queues"),
        ("[kessel]\nqueues = ['a', 'a b']", "kessel.toml: queues[1]"),
        ("[kessel]\nqueues = [3]", "kessel.toml: queues[0]"),
        ("[kessel]\nqueues = [[]]", "kessel.toml: queues[0]"),
        ("[kessel]\nadapter = ' '", "kessel.toml: adapter"),
        ("[kessel]\nadapter = 3", "kessel.toml: adapter"),
        ("[kessel]\nhandlers = 'x:y'", "kessel.toml: handlers"),
        ("[kessel.handlers]\na = 3", "kessel.toml: handlers.a"),
        ("[kessel.handlers]\na = ' '", "kessel.toml: handlers.a"),
        ("[kessel.handlers]\n' ' = 'x:y'", "kessel.toml: handlers"),
        ("[kessel.handlers]\n'a' = 'x:y'\n'a ' = 'x:z'", "kessel.toml: handlers"),
        ("[kessel.middleware_options]\nlogging = 3", "kessel.toml: middleware_options.logging"),
        ("[kessel.logging]\njson = 'true'", "kessel.toml: logging.json"),
        ("[kessel.logging]\nlevel = 'loud'", "kessel.toml: logging.level"),
        ("[kessel.routes]\na = {priority = true}", "kessel.toml: routes.a.priority"),
        ("[kessel.routes]\na = {priority = 1.0}", "kessel.toml: routes.a.priority"),
        ("[kessel.jobs]\nretry_base = '1h'\nretry_cap = '1m'", "kessel.toml: jobs.retry_cap"),
        ("[kessel.plugins]\ndisabled = ['x']\nrequired = ['x']", "kessel.toml: plugins.required"),
    ],
)
def test_wrong_value_is_refused_with_file_and_key(tmp_path: Path, text: str, where: str) -> None:
    written(tmp_path, text)
    with pytest.raises(InvalidConfig) as error:
        load_config(environ={}, directory=tmp_path)
    assert where in problems(error)


def test_a_name_of_a_queue_that_is_blank_is_told_once(tmp_path: Path) -> None:
    written(tmp_path, "[kessel]\nqueues = ['a b', ' ']\n")
    with pytest.raises(InvalidConfig) as error:
        load_config(environ={}, directory=tmp_path)
    assert [str(problem) for problem in error.value.problems] == ["kessel.toml: queues[1]: must not be blank"]


@pytest.mark.parametrize(
    ("slots", "is_allowed"), [("0", False), ("1", True), ("10000", True), ("10001", False)]
)
def test_the_bounds_of_an_option_are_allowed_values(tmp_path: Path, slots: str, is_allowed: bool) -> None:
    environ = {"KESSEL_WORKER_SLOTS": slots}
    if is_allowed:
        assert load_config(environ=environ, directory=tmp_path).config.worker.slots == int(slots)
        return
    with pytest.raises(InvalidConfig, match=f"KESSEL_WORKER_SLOTS: expected 1 to 10000, got {slots}"):
        load_config(environ=environ, directory=tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KESSEL_LOGGING_JSON", "perhaps"),
        ("KESSEL_WORKER_SLOTS", ""),
        ("KESSEL_WORKER_SLOTS", "1.5"),
        ("KESSEL_ADAPTER_OPTIONS", "path=x"),
        ("KESSEL_ADAPTER_OPTIONS", "[1]"),
        ("KESSEL_ADAPTER_OPTIONS", '{"a": 1, "a": 2}'),
        ("KESSEL_ADAPTER_OPTIONS", "[" * 100_000),
        ("KESSEL_QUEUES", ""),
        ("KESSEL_WORKER_GRACE", "2 fortnights"),
    ],
)
def test_wrong_variable_is_refused_by_its_name(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(InvalidConfig) as error:
        load_config(environ={name: value}, directory=tmp_path)
    assert set(problems(error)) == {name}


def test_wrong_table_in_a_variable_is_refused_without_its_text(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig) as error:
        load_config(environ={"KESSEL_ADAPTER_OPTIONS": "password=hunter2"}, directory=tmp_path)
    assert "hunter2" not in str(error.value)


def test_options_of_another_kind_of_adapter_do_not_count(tmp_path: Path) -> None:
    """A file says how its beanstalkd is used; `--adapter sqlite:///x.db` must not choke on that."""
    written(tmp_path, '[kessel]\nadapter = "beanstalk://h"\n[kessel.adapter_options]\nttr = "60s"\n')

    def options(adapter: str, **environ: str) -> object:
        arguments = {"adapter": Argument(adapter, "--adapter")}
        loaded = load_config(environ=environ, arguments=arguments, directory=tmp_path)
        return loaded.config.adapter_options, loaded.origins["adapter_options"].layer

    for same in ("beanstalk://other:1", "BeansTalk://other:1", "beanstalk"):
        assert options(same) == ({"ttr": "60s"}, "file")
    assert options("sqlite:///x.db") == ({}, "default")
    moved = {"KESSEL_ADAPTER": "sqlite:///x.db", "KESSEL_ADAPTER_OPTIONS": '{"lease": "5s"}'}
    assert options("sqlite:///y.db", **moved) == ({"lease": "5s"}, "environment")


def test_options_of_an_adapter_count_wherever_its_layer_has_them(tmp_path: Path) -> None:
    """TOML tables have no order: what stands before the adapter belongs to it all the same (D11)."""
    written(tmp_path, '[kessel.adapter_options]\nlease = "20s"\n[kessel]\nadapter = "memory://"\n')
    assert load_config(environ={}, directory=tmp_path).config.adapter_options == {"lease": "20s"}
    both = {"adapter_options": Argument({"lease": "5s"}, "--o"), "adapter": Argument("sqlite:///x.db", "-a")}
    loaded = load_config(environ={}, arguments=both, directory=tmp_path)
    assert loaded.config.adapter_options == {"lease": "5s"}


def test_variables_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    others = {"KESSEL_BILLING_ENDPOINT_ADDRESS": "x", "KESSEL_TYPE": "y", "KESSEL_SHOTS": "3", "SLOTS": "z"}
    load_config(environ=others, directory=tmp_path)


def test_a_variable_that_begins_as_those_of_a_section_is_meant_for_kessel(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="KESSEL_WORKER_COLOUR_OF_THE_LOGS: unknown variable"):
        load_config(environ={"KESSEL_WORKER_COLOUR_OF_THE_LOGS": "red"}, directory=tmp_path)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("KESSEL_SLOTS", "'KESSEL_WORKER_SLOTS'"),
        ("KESSEL_MAX_ATTEMPTS", "'KESSEL_JOBS_MAX_ATTEMPTS'"),
        ("KESSEL_KEEP", "'KESSEL_RESULTS_KEEP' or 'KESSEL_HISTORY_KEEP'"),
    ],
)
def test_a_variable_of_an_option_without_its_section_is_not_ignored(
    variable: str, meant: str, tmp_path: Path
) -> None:
    """`KESSEL_SLOTS=8 kessel worker` ran with one slot, and said nothing."""
    with pytest.raises(InvalidConfig) as error:
        load_config(environ={variable: "8"}, directory=tmp_path)
    assert problems(error) == {variable: f"unknown variable; did you mean {meant}?"}


def test_variables_that_kubernetes_sets_for_a_service_are_left_alone(tmp_path: Path) -> None:
    """A service called `kessel-worker`, as for `/metrics`, must stop no container of its namespace."""
    port = "KESSEL_WORKER_PORT"
    service = {
        "KESSEL_WORKER_SERVICE_HOST": "10.0.0.1",
        "KESSEL_WORKER_SERVICE_PORT": "8086",
        "KESSEL_WORKER_SERVICE_PORT_HEALTH": "8086",
        port: "tcp://10.0.0.1:8086",
        f"{port}_8086_TCP": "tcp://10.0.0.1:8086",
        f"{port}_8086_TCP_ADDR": "10.0.0.1",
    }
    loaded = load_config(environ={**service, "KESSEL_WORKER_SLOTS": "3"}, directory=tmp_path)
    assert loaded.config.worker.slots == 3
    alone = {"KESSEL_WORKER_SERVICE_HOST": "10.0.0.1"}  # of a service there is a port as well
    for wrong in ({**service, "KESSEL_WORKER_SLOT": "3"}, {port: "8086"}, alone):
        with pytest.raises(InvalidConfig) as error:
            load_config(environ=wrong, directory=tmp_path)
        assert len(problems(error)) == 1


def test_relation_across_layers_is_named_by_the_origin_of_the_option(tmp_path: Path) -> None:
    written(tmp_path, "[kessel.jobs]\nretry_cap = '1s'\n")
    with pytest.raises(InvalidConfig) as error:
        load_config(environ={"KESSEL_JOBS_RETRY_BASE": "5s"}, directory=tmp_path)
    assert set(problems(error)) == {"kessel.toml: jobs.retry_cap"}


@pytest.mark.parametrize("text", ["", "[kessel.jobs]\nretry_base = '1h'\n"])
def test_a_contradiction_with_a_default_names_where_the_other_option_comes_from(
    tmp_path: Path, text: str
) -> None:
    """Nobody finds the variable or the file that is to blame by the name of a default (D11)."""
    written(tmp_path, text)
    environ = {} if text else {"KESSEL_JOBS_RETRY_BASE": "1h"}
    with pytest.raises(InvalidConfig, match=r"jobs.retry_cap: must not be below retry_base \(1h\)") as error:
        load_config(environ=environ, directory=tmp_path)
    assert [problem.origin for problem in error.value.problems] == [*(environ or ["kessel.toml"])]


def test_a_wrong_option_neither_hides_nor_makes_a_contradiction(tmp_path: Path) -> None:
    """What an option contradicts is said only where both are right; the others are said all the same."""
    written(tmp_path, "[kessel.jobs]\nretry_cap = '1s'\nretry_base = 'soon'\n")
    with pytest.raises(InvalidConfig) as error:
        load_config(
            environ={"KESSEL_PLUGINS_DISABLED": "x", "KESSEL_PLUGINS_REQUIRED": "x"}, directory=tmp_path
        )
    assert set(problems(error)) == {"kessel.toml: jobs.retry_base", "KESSEL_PLUGINS_REQUIRED"}


def test_the_place_of_a_problem_is_data(tmp_path: Path) -> None:
    written(tmp_path, "[kessel.worker]\nslots = 0\n[kessel.handlers]\n'order.process' = 3\n")
    with pytest.raises(InvalidConfig) as error:
        load_config(environ={"KESSEL_QUEUES": "a,a b"}, directory=tmp_path)
    assert [(p.origin, p.where) for p in error.value.problems] == [
        ("kessel.toml", ("worker", "slots")),
        ("kessel.toml", ("handlers", "order.process")),
        ("KESSEL_QUEUES", (1,)),
    ]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing.toml", "there is no file 'missing.toml'"),
        ("nowhere/kessel.toml", "there is no file 'nowhere/kessel.toml'"),
        ("a_file/kessel.toml", "there is no file 'a_file/kessel.toml'"),
        ("", "names no file"),
    ],
)
def test_named_file_that_does_not_exist_is_one_clear_error(tmp_path: Path, name: str, says: str) -> None:
    written(tmp_path, "", "a_file")
    with pytest.raises(InvalidConfig) as error:
        load_config(name, environ={}, directory=tmp_path)
    assert problems(error) == {"--config": says}


def test_misspelt_file_gets_the_nearest_name(tmp_path: Path) -> None:
    written(tmp_path, "", "production.toml")
    with pytest.raises(InvalidConfig) as error:
        load_config("prodution.toml", environ={}, directory=tmp_path)
    assert "did you mean 'production.toml'?" in problems(error)["--config"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[kessel", "is not TOML"),
        (b"\xff\xfe", "is not UTF-8"),
        (None, "is a directory"),
    ],
)
def test_unreadable_file_is_one_clear_error(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "kessel.toml"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(InvalidConfig) as error:
        load_config(environ={}, directory=tmp_path)
    assert any(expected in message for message in problems(error).values())


def test_wrong_file_does_not_hide_what_is_wrong_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig) as error:
        load_config("missing.toml", environ={"KESSEL_WORKER_SLOTS": "x"}, directory=tmp_path)
    assert set(problems(error)) == {"--config", "KESSEL_WORKER_SLOTS"}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("adapter", "beanstalk://me:hunter2@host:11300/", "beanstalk://***@host:11300/"),
        ("adapter", "x://host?api_token=hunter2&ttr=3", "x://host?api_token=***&ttr=3"),
        ("adapter", "x://host?%74oken=hunter2&apikey=hunter2", "x://host?%74oken=***&apikey=***"),
        ("adapter", "x://u:hunter2@[host", "x://***@[host"),
        ("adapter_options", {"password": "hunter2", "n": 1}, {"password": "***", "n": 1}),
        ("adapter_options", {"a": {"client_secret": "hunter2"}}, {"a": {"client_secret": "***"}}),
        ("adapter_options", {"urls": ["x://u:hunter2@h"]}, {"urls": ["x://***@h"]}),
        ("adapter_options", {"password": "", "token": None}, {"password": "", "token": None}),
        ("adapter_options", {"tokens": ["hunter2"]}, {"tokens": "***"}),
        ("adapter_options", {"nodes": [{"password": "hunter2"}]}, {"nodes": [{"password": "***"}]}),
        ("adapter_options", {"since": date(2026, 1, 31)}, {"since": "2026-01-31"}),
        ("worker.grace", timedelta(seconds=90), "90s"),
        ("worker.grace", timedelta(minutes=5), "5m"),
    ],
)
def test_secrets_are_never_shown(name: str, value: object, expected: object) -> None:
    assert shown(name, value) == expected
