from __future__ import annotations

import pytest

from sb3_alignsam.tracking.addresses import anonymous, artifact_place, checked, default_store, masked, usable


@pytest.mark.parametrize(
    ("address", "shown", "without"),
    [
        ("http://host:5000", "http://host:5000", "http://host:5000"),
        ("https://me:secret@host/x", "https://me:***@host/x", "https://host/x"),
        ("https://me:se@cret@host", "https://me:***@host", "https://host"),
        ("https://token@host", "https://***@host", "https://host"),
        ("sqlite:////logs/mlflow.db", "sqlite:////logs/mlflow.db", "sqlite:////logs/mlflow.db"),
        ("--tracking-uri=http://me:secret@host", "--tracking-uri=http://me:***@host", "--tracking-uri=http://host"),
    ],
)
def test_passwords_are_hidden_and_what_was_hidden_can_be_used_without(address, shown, without):
    assert masked(address) == shown
    assert anonymous(address) == without
    assert usable(masked(address)) == (without if shown != address else address)


def test_a_database_is_known_by_its_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert checked("sqlite:///a.db") == f"sqlite:///{tmp_path.resolve()}/a.db"
    assert checked("http://me:secret@host") == "http://me:secret@host"


def test_files_of_a_database_lie_beside_it_and_those_of_a_server_where_it_says(tmp_path):
    place = artifact_place(default_store(tmp_path), "Shapes of 1/2")
    assert place == (tmp_path.resolve() / "mlartifacts" / "Shapes_of_1_2").as_uri()
    assert artifact_place("http://host", "x") is None
