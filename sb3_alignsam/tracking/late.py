"""``sb3-alignsam sync``: what training could not send, and what came after it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sb3_alignsam.errors import InputError, RunError
from sb3_alignsam.tracking.addresses import masked, usable
from sb3_alignsam.tracking.journal import FOLDER, Journal, journal_of, read_entries


@dataclass(frozen=True)
class Sent:
    """What was sent. :param uri: where to, without passwords. :param entries: of the journal. :param files: new ones.
    :param refused: what the server will not take, a line each."""

    uri: str
    entries: int
    files: int
    refused: list[str]


def sync(folder: Path, tracking_uri: str | None = None) -> Sent:
    """Send what is left of a run's journal, and its files that are new since; nothing twice.

    :param folder: of the run; nobody trains in it now.
    :param tracking_uri: of the store; None: the run's own. Another store gets the whole run.
    :raises InputError: the run was not tracked, or another process sends it. :raises RunError: the server fails.
    """
    entries = [entry for entry, _ in read_entries(journal_of(folder)) if entry is not None]
    begins = [entry for entry in entries if entry.get("kind") == "begin"]
    if not begins:
        raise InputError(
            f"{folder} holds no {FOLDER}/{journal_of(folder).name}: it is no run folder, or was not tracked"
        )
    uri = tracking_uri or usable(begins[-1]["uri"])
    if not _has_ended(entries):
        journal = Journal(journal_of(folder), print)
        journal.append({"kind": "status", "status": "KILLED"})
        journal.close()
    return _sent(folder, uri, begins[-1]["files"])


def _sent(folder: Path, uri: str, patterns: dict[str, str]) -> Sent:
    from sb3_alignsam.tracking.sender import reason_of
    from sb3_alignsam.tracking.sending import Sending, only_sender  # imports mlflow, which takes seconds

    try:
        with only_sender(folder):
            sending = Sending(folder, uri)
            count = sending.send()
            files = sending.send_files(patterns)
    except BlockingIOError as error:
        raise InputError(f"{folder} is being sent by another process; wait until it is done") from error
    except InputError:
        raise
    except Exception as error:  # what MLflow raises, its clients of stores and its databases, is of no one kind
        raise RunError(f"{masked(uri)} cannot be used ({reason_of(error)}); what is missing is kept") from error
    return Sent(masked(uri), count, files, sending.refused)


def _has_ended(entries: list[dict]) -> bool:
    """Whether the last who trained told how it ended."""
    kinds = [entry.get("kind") for entry in entries if entry.get("kind") in ("begin", "status")]
    return kinds[-1] == "status"
