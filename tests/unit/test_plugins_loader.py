"""D1-D6: plugins are found, judged and loaded one by one, whatever they do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import Distribution, MetadataPathFinder
from pathlib import Path
from typing import Any

import attrs
import pluggy
import pytest

from kessel_core import PluginError, build_plugins, hookimpl
from kessel_core.hooks import specs
from kessel_core.plugins.chain import build_chain
from kessel_core.plugins.registry import Plugins
from kessel_core.plugins.status import PluginState, PluginStatus
from kessel_core.plugins.watchers import watchers_of

IMPL = "from kessel_core.hooks import hookimpl\n"
GOOD = IMPL + "@hookimpl\ndef kessel_job_finished(result): pass\n"


class Site:
    """A folder of fake distributions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self, name: str, source: str = GOOD, *, dist: str = "", group: str = "kessel.v1", attr: str = ""
    ) -> None:
        dist = dist or f"{name}-dist"
        module = f"loader_{dist}".replace("-", "_")
        (self.folder / f"{module}.py").write_text(source)
        info = self.folder / f"{dist.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}{attr}\n")

    def distributions(self) -> list[Distribution]:
        return list(MetadataPathFinder.find_distributions(_context(self.folder)))

    def build(self, **given: Any) -> Plugins:
        return build_plugins(distributions=self.distributions(), **given)

    def status(self, name: str, **given: Any) -> PluginStatus:
        return next(status for status in self.build(**given).report if status.name == name)


def _context(folder: Path) -> Any:
    from importlib.metadata import DistributionFinder

    return DistributionFinder.Context(path=[str(folder)])


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Site(tmp_path)
    for name in [name for name in sys.modules if name.startswith("loader_")]:
        del sys.modules[name]


def test_good_plugin_is_active_with_its_distribution_and_hooks(site: Site) -> None:
    site.add("good")
    status = site.status("good")
    assert (status.state, status.distribution, status.version) == (PluginState.ACTIVE, "good-dist", "1.0")
    assert status.hooks == ("kessel_job_finished",)
    assert status.warnings == ()


@pytest.mark.parametrize(
    ("source", "attr", "said"),
    [
        ("import no_such_library", "", "no_such_library"),
        ("raise SystemExit(3)", "", "SystemExit"),
        ("def (", "", "SyntaxError"),
        (GOOD, ":missing", "missing"),
        ("class E(Exception):\n    def __str__(self): raise E\nraise E", "", "cannot be read"),
        (IMPL + "@hookimpl\nasync def kessel_job_finished(result): pass", "", "async"),
        (IMPL + "@hookimpl\ndef kessel_job_finished(result=None): pass", "", "defaults"),
        (IMPL + "@hookimpl\ndef kessel_job_finished(*, result): pass", "", "never be given"),
        (IMPL + "@hookimpl\ndef kessel_job_finished(**all): pass", "", "never be given"),
        (IMPL + "@hookimpl\ndef kessel_job_finished(job): pass", "", "job"),
        (
            IMPL + "@hookimpl(wrapper=True)\ndef kessel_adapters(): return (yield)",
            "",
            "must not be a wrapper",
        ),
        (IMPL + "@hookimpl(hookwrapper=True)\ndef kessel_execute_job(job): yield", "", "wrapper=True"),
        (IMPL + "@hookimpl(wrapper=True)\ndef kessel_execute_job(job): pass", "", "wrapper"),
        (IMPL + "class P:\n    @hookimpl\n    def kessel_cli(self, group): pass", ":P", "instance"),
        (IMPL + "@hookimpl\ndef kessel_adaptors(): pass", "", "did you mean 'kessel_adapters'"),
        ("class P:\n    def __dir__(self): raise OSError('no')\np = P()", ":p", "OSError"),
    ],
)
def test_wrong_plugin_fails_alone_and_says_why(site: Site, source: str, attr: str, said: str) -> None:
    """D4, D6."""
    site.add("bad", source, attr=attr)
    site.add("good")
    plugins = site.build()
    bad = next(status for status in plugins.report if status.name == "bad")
    assert bad.state is PluginState.FAILED
    assert said in bad.why
    assert bad.distribution == "bad-dist"
    assert "bad" not in dict(plugins.objects()), "not even half of it (pluggy 1.6)"
    assert len(watchers_of(plugins).finished) == 1


def test_half_registration_is_rolled_back(site: Site) -> None:
    """D4: pluggy 1.6 keeps what it took before the fault."""
    site.add("bad", GOOD + "@hookimpl\ndef kessel_job_started(nonsense): pass\n")
    plugins = site.build()
    assert watchers_of(plugins).finished == ()


def test_half_registration_is_rolled_back_whatever_pluggy_does(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D4: as pluggy 1.6 does, and perhaps a later one."""
    register = pluggy.PluginManager.register

    def half(self: pluggy.PluginManager, plugin: object, name: str | None = None) -> str | None:
        register(self, plugin, name=name)
        if name == "bad":
            raise OSError("in the middle")
        return name

    monkeypatch.setattr(pluggy.PluginManager, "register", half)
    site.add("bad")
    site.add("good")
    plugins = site.build()
    bad = next(status for status in plugins.report if status.name == "bad")
    assert (bad.state, bad.why) == (PluginState.FAILED, "OSError: in the middle")
    assert "bad" not in dict(plugins.objects())
    assert [one.owner.name for one in plugins.implementations(specs.kessel_job_finished)] == ["good"]


def test_keyboard_interrupt_at_import_is_the_users(site: Site) -> None:
    site.add("bad", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        site.build()


def test_misspelt_hook_beside_a_right_one_is_a_warning(site: Site) -> None:
    """D6."""
    site.add("odd", GOOD + "@hookimpl\ndef kessel_job_setled(result): pass\n")
    status = site.status("odd")
    assert status.state is PluginState.ACTIVE
    assert "did you mean 'kessel_job_settled'" in status.warnings[0]


def test_hook_without_mark_and_plugin_without_hooks_are_warnings(site: Site) -> None:
    site.add("bare", "def kessel_cli(group): pass\n")
    warnings = " ".join(site.status("bare").warnings)
    assert "not marked" in warnings
    assert "no hook" in warnings


def test_disabled_plugin_is_not_imported(site: Site) -> None:
    """D4: filtered before import."""
    site.add("off", "raise SystemExit(1)")
    assert site.status("off", disabled=["off"]).state is PluginState.DISABLED
    assert "loader_off_dist" not in sys.modules


def test_one_name_of_two_distributions_is_a_conflict_that_names_both(site: Site) -> None:
    """D4."""
    site.add("same", dist="first")
    site.add("same", dist="second")
    report = [status for status in site.build().report if status.name == "same"]
    assert [status.state for status in report] == [PluginState.CONFLICT] * 2
    assert all("first" in status.why and "second" in status.why for status in report)
    assert not any(name.startswith("loader_") for name in sys.modules)


def test_d4_one_name_twice_in_one_distribution_is_a_conflict(site: Site) -> None:
    site.add("same")
    entry_points = site.folder / "same_dist-1.0.dist-info" / "entry_points.txt"
    entry_points.write_text(entry_points.read_text() + "same = loader_same_dist:other\n")
    report = [status for status in site.build().report if status.name == "same"]
    assert [status.state for status in report] == [PluginState.CONFLICT] * 2


def test_d4_one_module_under_two_names_is_one_plugin_and_the_other_is_told_briefly(site: Site) -> None:
    """pluggy's own error lists every plugin of the process."""
    site.add("first")
    entry_points = site.folder / "first_dist-1.0.dist-info" / "entry_points.txt"
    entry_points.write_text(entry_points.read_text() + "second = loader_first_dist\n")
    first, second = (status for status in site.build().report if status.distribution == "first-dist")
    assert (first.state, second.state) == (PluginState.ACTIVE, PluginState.FAILED)
    assert second.why == "loader_first_dist is the plugin 'first' already; one entry point is enough"


def test_f64_an_entry_point_without_a_name_fails_alone(site: Site) -> None:
    """pluggy would give it a name that nothing else knows, and each question to plugins raised KeyError."""
    site.add("", dist="nameless")
    site.add("good")
    plugins = site.build()
    (nameless,) = (status for status in plugins.report if status.distribution == "nameless")
    assert nameless.why == "its entry point has no name"
    assert len(watchers_of(plugins).finished) == 1


def test_name_of_the_core_cannot_be_taken(site: Site) -> None:
    site.add("logging")
    plugins = site.build()
    taken = next(status for status in plugins.report if status.distribution == "logging-dist")
    assert taken.state is PluginState.CONFLICT
    assert "kessel-core" in taken.why


def test_refused_extra_plugin_does_not_push_out_its_namesake() -> None:
    class Mine:
        @hookimpl
        def kessel_job_finished(self, result: object) -> None: ...

    plugins = build_plugins(extra={"logging": Mine()}, distributions=[])
    assert plugins.report[-1].state is PluginState.FAILED
    assert plugins.report[-1].why == "the name 'logging' is taken"
    assert [link.name for link in build_chain(plugins, ["logging"]).members] == ["logging"]


@pytest.mark.parametrize("group", ["kessel.v2", "kessel.v0", "kessel.v17"])
def test_other_api_major_is_incompatible_and_not_imported(site: Site, group: str) -> None:
    """D1."""
    site.add("new", "raise SystemExit(1)", group=group)
    status = site.status("new")
    assert status.state is PluginState.INCOMPATIBLE
    assert "this is v1" in status.why


def test_d1_a_distribution_for_several_api_majors_is_used_with_ours_and_not_told_as_incompatible(
    site: Site,
) -> None:
    site.add("both")
    entry_points = site.folder / "both_dist-1.0.dist-info" / "entry_points.txt"
    entry_points.write_text(entry_points.read_text() + "[kessel.v2]\nboth = loader_both_new\n")
    assert [status.state for status in site.build().report if status.name == "both"] == [PluginState.ACTIVE]


@pytest.mark.parametrize("group", ["kessel", "kessel.vx", "kessel.v1.more", "other.v1"])
def test_other_groups_are_not_ours(site: Site, group: str) -> None:
    site.add("foreign", group=group)
    assert "foreign" not in [status.name for status in site.build().report]


def test_report_is_sorted_by_name_after_the_core(site: Site) -> None:
    for name in ("zeta", "alpha", "mid"):
        site.add(name)
    names = [s.name for s in site.build().report if s.distribution != "kessel-core"]
    assert names == ["alpha", "mid", "zeta"]


def test_distribution_twice_on_the_path_counts_once(site: Site) -> None:
    site.add("good", dist="a-good")
    found = site.distributions()
    report = build_plugins(distributions=[*found, *found]).report
    assert [s.state for s in report if s.name == "good"] == [PluginState.ACTIVE]


@pytest.mark.parametrize("error", [OSError("disk"), ValueError("no text"), AttributeError("none")])
def test_damaged_metadata_of_others_is_passed_by(site: Site, error: Exception) -> None:
    class Damaged(Distribution):
        def read_text(self, filename: str) -> str | None:
            raise error

        def locate_file(self, path: Any) -> Any:
            raise error

    site.add("good")
    report = build_plugins(distributions=[Damaged(), *site.distributions()]).report
    assert report[-1].name == "good"


@pytest.mark.parametrize(
    ("add", "given", "said"),
    [
        (lambda s: s.add("x", "import no_such_library"), {}, "no_such_library"),
        (lambda s: s.add("x"), {"disabled": ["x"]}, "disabled"),
        (lambda s: s.add("x", group="kessel.v2"), {}, "incompatible"),
        (lambda s: s.add("xy"), {}, "did you mean 'xy'"),
    ],
)
def test_required_plugin_must_be_active(
    site: Site, add: Callable[[Site], None], given: dict[str, Any], said: str
) -> None:
    """D4: what the configuration names."""
    add(site)
    with pytest.raises(PluginError, match=said):
        site.build(required=["x"], **given)


def test_required_plugin_keeps_the_cause_of_its_failure(site: Site) -> None:
    site.add("x", "import no_such_library")
    with pytest.raises(PluginError) as caught:
        site.build(required=["x"])
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert caught.value.distribution == "x-dist"


def test_equal_plugin_objects_are_both_used() -> None:
    """As documented for objects: `eq=False`."""

    @attrs.define(eq=False)
    class Watch:
        @hookimpl
        def kessel_job_finished(self, result: object) -> None: ...

    plugins = build_plugins(extra={"a": Watch(), "b": Watch()}, distributions=[])
    assert len(watchers_of(plugins).finished) == 2


def test_loader_imports_costly_libraries_only_when_used() -> None:
    """D5."""
    code = """import sys, kessel_core.plugins.loading, kessel_core.plugins.chain
print([m for m in sys.argv[1:] if m in sys.modules])"""
    late = ["importlib.metadata", "cattrs", "difflib", "click", "rich"]
    done = subprocess.run([sys.executable, "-c", code, *late], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
