"""Archives as they come from elsewhere: unpacked whole or not at all, and never outside their folder."""

import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from hstnn_deploy import files
from hstnn_deploy.data.files.folder import Report, silent, unwritable
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import brief, reading


def unpack(path: Path, holds: str, report: Report = silent) -> None:
    """Unpack an archive beside itself: `holds` takes its place when it is whole; other members are left out.

    Raises:
        DataError: the archive is damaged, does not hold it, has members that lie outside or are no plain files; or
            the disk is full.
    """
    staging = path.with_name(f".{path.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    again = "remove it, and run `hstnn data prepare` again"
    try:
        with reading(path, "an archive", DataError, again), path.open("rb") as raw:
            size = path.stat().st_size
            for name, content in _members(path, raw):
                report(f"unpacking {path.name}", raw.tell(), size)
                place = PurePosixPath(name.replace("\\", "/"))
                if place.is_absolute() or ".." in place.parts:
                    raise DataError(f"{path} has a member outside of it, {brief(name)}: nothing was unpacked", again)
                if place.parts and place.parts[0] == PurePosixPath(holds).parts[0] and content is not None:
                    with content:
                        _copy(content, staging / place, path.with_name(holds))
        if not (staging / holds).exists():
            raise DataError(f"{path} does not hold {holds}", again)
        (staging / holds).replace(path.with_name(holds))
    except OSError as error:
        raise unwritable(files.cannot_write(path.with_name(holds), error)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _copy(content: IO[bytes], target: Path, whole: Path) -> None:
    """Write a member's content; what the disk refuses is not the archive's fault.

    Raises:
        DataError: the disk is full, or a name is too long for it.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = target.open("wb")
    except OSError as error:
        raise unwritable(files.cannot_write(whole, error)) from error
    with file:
        while part := content.read(2**20):
            try:
                file.write(part)
            except OSError as error:
                raise unwritable(files.cannot_write(whole, error)) from error


def _members(path: Path, raw: IO[bytes]) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Yield the members of a zip or tar archive in order: name and content, of a folder None.

    Raises:
        DataError: one is neither a plain file nor a folder.
    """
    if path.suffix == ".zip":
        with zipfile.ZipFile(raw) as archive:
            for info in archive.infolist():
                yield info.filename, None if info.is_dir() else archive.open(info)
        return
    with tarfile.open(fileobj=raw) as tape:
        for member in tape:
            if not (member.isreg() or member.isdir()):
                raise DataError(
                    f"{path} has a member that is not a plain file, {brief(member.name)}: nothing was unpacked"
                )
            yield member.name, tape.extractfile(member) if member.isreg() else None
