"""Recordings of events in the files that cameras and data sets write, told apart by how they begin and are called.

One reader and one report: file -> `Found` columns (event_cameras, event_arrays) -> `Recording` (event_columns).
"""

from pathlib import Path

from hstnn_deploy.data.readers import event_arrays, event_cameras
from hstnn_deploy.data.readers.event_columns import Expected, Found, Recording, make_recording
from hstnn_deploy.data.readers.event_options import EventOptions
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import reading

EVENT_FILES = (".bin", ".aedat", ".aedat4", ".dat", ".raw", ".npy", ".npz", ".txt", ".csv", ".h5", ".hdf5")
"""How files of events are called."""

TEXTS = (".txt", ".csv", ".tsv")
"""How texts are called."""

_NUMPY = (b"\x93NUMPY", b"PK")
_IMAGES = (b"\x89PNG", b"\xff\xd8\xff")
_HDF5 = b"\x89HDF\r\n"


def read_recording(path: Path, expected: Expected, options: EventOptions | None = None) -> Recording:
    """Return the events of a recording, as a network may see them, and the report of what was made of it.

    Args:
        path: N-MNIST's .bin; AEDAT 2.0, 3.1 or 4; Prophesee's .dat or .raw; arrays with t, x, y and p in .npy, .npz,
            text or HDF5; SHD's and DVS-Gesture's own files.
        expected: what the network was trained on.
        options: what the file does not say of itself.

    Raises:
        DataError: no such file, of another kind or damaged; or it says too little, or has events that cannot be; see
            `event_columns.make_recording`.
    """
    options = options or EventOptions()
    return make_recording(str(path), _found(path, expected, options), expected, options)


def is_recording(path: Path, step: tuple[int, ...]) -> bool:
    """Return whether a file holds events and not time steps of the shape `step`, as arrays and texts may, or an image.

    Raises:
        DataError: it cannot be read, or is damaged.
    """
    start = _start(path)
    if start.startswith(_IMAGES):
        return False
    if start.startswith(_NUMPY):
        return event_arrays.are_events(event_arrays.open_arrays(path), step)
    return event_arrays.is_text_of_events(path, step) if path.suffix.lower() in TEXTS else True


def are_rows(path: Path) -> bool:
    """Return whether a file holds raw events as graphs take them: whole numbers [N, 5], the recording first."""
    if not _start(path).startswith(_NUMPY):
        return False
    arrays = list(event_arrays.open_arrays(path).values())
    return len(arrays) == 1 and arrays[0].dtype.kind in "iu" and arrays[0].ndim == 2 and arrays[0].shape[1] == 5


def _found(path: Path, expected: Expected, options: EventOptions) -> Found:
    start, suffix = _start(path), path.suffix.lower()
    if start.startswith(b"#!AER-DAT4"):
        return event_cameras.read_aedat4(path)
    if start.startswith(b"#!AER-DAT2"):
        return event_cameras.read_aedat2(path)
    if start.startswith(b"#!AER-DAT"):
        return event_cameras.read_aedat3(path)
    if start.startswith(b"#ROSBAG"):
        raise DataError(
            f"{path} is a ROS bag, which is not read", "write its events as a text of t x y p, .npy, or AEDAT 4"
        )
    if start.startswith(_HDF5):
        return event_arrays.read_hdf5(path, options)
    if start.startswith(_NUMPY):
        if found := _own(path, expected, options):
            return found
        return event_arrays.read_arrays(path, event_arrays.open_arrays(path), options)
    match suffix:
        case ".bin":
            return event_cameras.read_bin(path)
        case ".aedat4":
            return event_cameras.read_aedat4(path)
        case ".aedat":
            return event_cameras.read_aedat3(path)
        case ".dat":
            return event_cameras.read_dat(path)
        case ".raw":
            return event_cameras.read_raw(path)
        case _ if suffix in TEXTS:
            return event_arrays.read_text(path, options)
        case ".npy" | ".npz" | ".h5" | ".hdf5":
            raise DataError(f"{path} is truncated or not a {suffix} file", "copy or download it again")
    raise DataError(f"{path} is no recording of events that hstnn reads", f"known: {', '.join(EVENT_FILES)}")


def _own(path: Path, expected: Expected, options: EventOptions) -> Found | None:
    """Return plain rows as DVS-Gesture's own files hold them, for a network that was trained on it; None of others."""
    if expected.data_set != "dvs-gesture" or options.order or options.unit:
        return None
    from hstnn_deploy.data.sets.dvs_gesture import read_npy

    try:
        events = read_npy(path)
    except DataError:
        return None
    columns = {"t": events["t"] / 1000, **{each: events[each] for each in "xyp"}}
    return Found("DVS-Gesture's own rows of x, y, p and t", columns, "ms")


def _start(path: Path) -> bytes:
    if path.is_dir():
        raise DataError(f"{path} is a folder", "give a file")
    with reading(path, "a recording"), path.open("rb") as file:
        start = file.read(16)
    if not start:
        raise DataError(f"{path} is empty", "copy or download it again")
    return start
