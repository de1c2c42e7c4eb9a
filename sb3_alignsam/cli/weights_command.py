"""`sb3-alignsam weights`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.fetching import fetch_weights, import_weights
from sb3_alignsam.perception.weight_files import check_stored
from sb3_alignsam.perception.weights import is_stored, read_manifest, weights_entry, weights_folder


@click.group("weights")
def command() -> None:
    """Get, list and check the weights that are not shipped.

    \b
    sb3-alignsam weights list
    sb3-alignsam weights fetch clip-vit-base-patch16 clip-bpe-vocabulary
    sb3-alignsam weights import repvit_sam.pt
    sb3-alignsam weights verify
    """


@command.command("list")
def list_weights() -> None:
    """Show which weights are known, and which are here.

    \b
    sb3-alignsam weights list
    """
    entries = read_manifest()
    table = Table("name", "what it is", "licence", "size", "here", box=SIMPLE_HEAD, pad_edge=False)
    for entry in entries:
        size = "not known" if entry.size is None else f"{entry.size / 1e6:.1f} MB"
        table.add_row(entry.name, entry.what, entry.licence, size, "yes" if is_stored(entry) else "no")
    Console().print(table)
    for entry in entries:
        if entry.sha256 is None:
            click.echo(f"{entry.name}: digest not known here: fetch and import need --sha256")
    click.echo(f"They lie in {weights_folder()}")


@command.command("fetch")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--sha256", metavar="HEX", help="Digest of the published file; else the known one.")
def fetch(names: tuple[str, ...], sha256: str | None) -> None:
    """Download weights, check their digest and store them.

    \b
    sb3-alignsam weights fetch clip-vit-base-patch16 clip-bpe-vocabulary
    """
    entries = [weights_entry(name) for name in names]
    if sha256 is not None and len(entries) > 1:
        raise InputError("--sha256 is the digest of one file: give one name")
    for entry in entries:
        path = fetch_weights(entry.name, sha256, progress=sys.stdout.isatty(), say=click.echo)
        click.echo(f"{entry.name}: {path}")


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="What the file is; else its digest or its name says so.")
@click.option("--sha256", metavar="HEX", help="Digest of the file, where it is not a known one.")
def import_file(file: Path, name: str | None, sha256: str | None) -> None:
    """Check the digest of a FILE that you have and store its weights; the file is left as it is.

    \b
    sb3-alignsam weights import ViT-B-16.pt
    sb3-alignsam weights import bpe_simple_vocab_16e6.txt.gz
    """
    click.echo(import_weights(file, name, sha256, say=click.echo))


@command.command("verify")
@click.argument("names", nargs=-1, metavar="[NAME...]")
def verify(names: tuple[str, ...]) -> None:
    """Read stored weights again, those of each NAME or all, and compare them with their digests.

    \b
    sb3-alignsam weights verify
    """
    entries = [weights_entry(name) for name in names] or [entry for entry in read_manifest() if is_stored(entry)]
    faults = []
    for entry in entries:
        try:
            source = check_stored(entry)
        except InputError as error:
            faults.append(str(error))
            continue
        published = f"the published {entry.file}" if source == entry.sha256 else f"a file of SHA-256 {source}"
        click.echo(f"{entry.name}: intact, made of {published}")
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise InputError(f"{faults[0]}{more}")
    if not entries:
        click.echo(f"no weights in {weights_folder()}")
