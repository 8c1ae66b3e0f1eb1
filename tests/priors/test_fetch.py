"""Weights that are downloaded: on request only, and only the right ones."""

from __future__ import annotations

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from tiltkit.errors import MachineError, PluginError, TiltkitError, UsageError
from tiltkit.hookspecs import PriorEntry
from tiltkit.priors.denoiser import NetworkOptions, network_prior
from tiltkit.priors.fetch import cache_path, fetch, weights_file
from tiltkit.priors.network import ScoreUNet
from tiltkit.priors.weights import save_network

pooch = pytest.importorskip("pooch")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """An entry whose weights lie on a server, and an empty cache."""
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    site = tmp_path / "site"
    site.mkdir()
    save_network(site / "net.safetensors", ScoreUNet(channels=1, widths=(4,), blocks=(1,)), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield PriorEntry(
        name="lab.net",
        target="tiltkit.priors.denoiser:network_prior",
        summary="",
        url=f"http://127.0.0.1:{server.server_port}/net.safetensors",
        sha256=hashlib.sha256((site / "net.safetensors").read_bytes()).hexdigest(),
    )
    server.shutdown()
    server.server_close()


def changed(entry, **changes):
    values = {f: getattr(entry, f) for f in ("name", "target", "summary", "url", "sha256")}
    return PriorEntry(**values | changes)


def test_weights_are_used_once_they_are_fetched_and_never_before(served):
    with pytest.raises(UsageError, match="not on this computer") as error:
        network_prior(NetworkOptions(), served)
    assert "tiltkit prior fetch lab.net" in error.value.hint
    assert not cache_path(served).exists()
    assert fetch(served) == cache_path(served)
    prior = network_prior(NetworkOptions(), served)
    assert prior.score(torch.zeros(1, 1, 8, 8), 0.5).shape == (1, 1, 8, 8)


def test_a_second_fetch_downloads_nothing(served):
    path = fetch(served)
    assert fetch(changed(served, url="http://127.0.0.1:9/gone")) == path


def test_another_file_than_the_entry_means_is_refused_and_not_kept(served):
    wrong = changed(served, sha256="0" * 64)
    with pytest.raises(TiltkitError, match="is not the file that"):
        fetch(wrong)
    assert not cache_path(wrong).exists()


def test_weights_that_changed_since_are_refused_and_fetched_again(served):
    path = fetch(served)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(TiltkitError, match="its sha256 differs") as error, weights_file(served):
        pass
    assert error.value.hint == "tiltkit prior fetch lab.net."
    assert fetch(served) == path
    with weights_file(changed(served, sha256=served.sha256.upper())) as found:
        assert found == path


def test_shipped_weights_must_be_there_and_be_those_of_the_entry(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lab_shipped").mkdir()
    (tmp_path / "lab_shipped" / "__init__.py").touch()
    entry = PriorEntry(
        name="lab.shipped", target="", summary="", weights="lab_shipped:net.bin", sha256="0" * 64
    )
    with pytest.raises(PluginError, match="are gone"), weights_file(entry):
        pass
    (tmp_path / "lab_shipped" / "net.bin").write_bytes(b"net")
    with pytest.raises(TiltkitError, match="its sha256 differs"), weights_file(entry):
        pass


def test_a_server_that_does_not_answer_is_named(served):
    with pytest.raises(MachineError, match="could not be downloaded"):
        fetch(changed(served, url="http://127.0.0.1:9/net.safetensors"))
    with pytest.raises(MachineError, match="could not be downloaded"):
        fetch(changed(served, url=served.url.replace("net.s", "other.s")))


def test_an_entry_without_address_or_digest_is_refused(served):
    with pytest.raises(PluginError, match="neither weights nor an address"):
        network_prior(NetworkOptions(), changed(served, url=""))
    with pytest.raises(UsageError, match="has nothing to fetch"):
        fetch(changed(served, url=""))
    with pytest.raises(PluginError, match="names no sha256"):
        fetch(changed(served, sha256=""))
