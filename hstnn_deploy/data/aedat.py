"""The AEDAT 3.1 format of event cameras: a text header, then packets of a 28 byte header and 8 bytes per event.

tonic's reader of the text header is used; its reader of the packets takes packets of every kind for events and ends
quietly within one, and `tonic.io.read_dvs_ibm`, which calls both, does not run in tonic 1.7.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

from hstnn_deploy.data.events import Events, make_events
from hstnn_deploy.errors import DataError

_AGAIN = "copy or download it again"


@lru_cache(maxsize=1)
def read_aedat(path: Path) -> Events:
    """Return the polarity events of a file; the last reading is remembered, since a file holds several recordings.

    Raises:
        DataError: it cannot be read, is of another version, or ends within a packet.
    """
    from tonic.io import read_aedat_header_from_file

    try:
        version, start = read_aedat_header_from_file(str(path))[:2]
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", _AGAIN) from error
    except (UnboundLocalError, ValueError) as error:
        raise DataError(f"{path} is not an AEDAT file: it does not begin with a header", _AGAIN) from error
    if not 3 < version < 4:
        raise DataError(f"{path} is an AEDAT file of version {version:g}, not 3.1", _AGAIN)
    packets = []
    while start < len(raw):
        header = np.frombuffer(raw, "<u4", min(7, (len(raw) - start) // 4), start)
        after = start + 28 + 8 * int(header[4]) if len(header) == 7 else len(raw) + 1
        if after > len(raw):
            raise DataError(f"{path} is truncated: its last packet begins at byte {start} and does not end", _AGAIN)
        if header[0] & 0xFFFF == 1:  # polarity events; the other half is where they come from
            packets.append(np.frombuffer(raw, "<u4", 2 * int(header[5]), start + 28).reshape(-1, 2))
        start = after
    data, times = np.concatenate([np.empty((0, 2), "<u4"), *packets]).T
    return make_events(data >> 17 & 0x1FFF, data >> 2 & 0x1FFF, times, data >> 1 & 1)
