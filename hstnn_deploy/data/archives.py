"""Archives as they come from elsewhere: unpacked whole or not at all, and never outside their folder."""

import gzip
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from hstnn_deploy import files
from hstnn_deploy.data.folder import Report, silent, unwritable
from hstnn_deploy.errors import DataError


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
        with path.open("rb") as raw:
            size = path.stat().st_size
            for name, content in _members(path, raw):
                report(f"unpacking {path.name}", raw.tell(), size)
                place = PurePosixPath(name.replace("\\", "/"))
                if place.is_absolute() or ".." in place.parts:
                    raise DataError(f"{path} has a member outside of it, {name!r}: nothing was unpacked", again)
                if place.parts and place.parts[0] == PurePosixPath(holds).parts[0] and content is not None:
                    target = staging / place
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with content, target.open("wb") as file:
                        shutil.copyfileobj(content, file, 2**20)
        if not (staging / holds).exists():
            raise DataError(f"{path} does not hold {holds}", again)
        (staging / holds).replace(path.with_name(holds))
    except (zipfile.BadZipFile, gzip.BadGzipFile, tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is truncated or damaged: {' '.join(str(error).split())}", again) from error
    except OSError as error:
        raise unwritable(files.cannot_write(path.with_name(holds), error)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


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
                raise DataError(f"{path} has a member that is no plain file, {member.name!r}: nothing was unpacked")
            yield member.name, tape.extractfile(member) if member.isreg() else None
