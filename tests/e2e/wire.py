"""src/keeper/wire.h and record.h for tests: structs as they lie in memory, sent over SOCK_SEQPACKET with descriptors."""

import array
import socket
import struct

PROTOCOL = 2
RECORD_SIZE = 256
HEADER_SIZE = 8192
BASES = 16
BASE_MAX = 480

(HELLO, SPAWN_SHIM, SHIM, SHIM_GONE, ATTACH, ATTACHED, RUN_HELPER, HELPER, STOP, RESTART, START, STARTED, ENDED,
 REFUSED) = range(1, 15)
EXIT_STOP, EXIT_USAGE, EXIT_LOCKED, EXIT_RESTART = 0, 2, 3, 10
LEAVE_RUNNING, SPLIT_OUTPUT, PAYLOAD_IN_FD, WAIT_ALL = 1, 2, 4, 8
FREE, ARMED, R_STARTED, R_ENDED, R_FAILED, R_UNKNOWN = range(6)
(STAGE_NONE, STAGE_OUTPUT, STAGE_ENVIRONMENT, STAGE_CGROUP, STAGE_CLONE, STAGE_DIRECTORY, STAGE_INPUT, STAGE_LIMITS,
 STAGE_EXEC, STAGE_INTERPRETER) = range(10)

KEEPER = struct.Struct("=IIIiiIQII")
HELPER_HEAD = struct.Struct("=IIQ")
START_HEAD = struct.Struct("=IIQQIIQQQIiIIQ")
SHIM_HEAD = struct.Struct("=II")
RECORD = struct.Struct("=IIQQII16siiQQQQiiIIQQQ2Q2QII2QQIII52x")
RECORD_FIELDS = ("crc state task nonce attempt cgroup_base boot_id shim_pid leader_pid shim_start leader_start started_ns "
                 "ended_ns wait_status start_errno start_stage strays user_us system_us memory_peak_bytes output_bytes "
                 "output_bytes1 output_dropped output_dropped1 is_oom_killed has_left_running output_gap_at output_gap_at1 "
                 "stray_grace_ns start_flags cgroup_serial is_frozen").split()
assert RECORD.size == RECORD_SIZE and KEEPER.size == 40 and START_HEAD.size == 80


def _make_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _make_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


class Record:
    """One slot record; fields as in record.h, arrays as NAME and NAME1."""

    def __init__(self, data=bytes(RECORD_SIZE)):
        for name, value in zip(RECORD_FIELDS, RECORD.unpack(data)):
            setattr(self, name, value)
        self.is_valid = self.crc == crc32c(data[4:])

    def pack(self):
        data = RECORD.pack(*(getattr(self, name) for name in RECORD_FIELDS))
        return struct.pack("=I", crc32c(data[4:])) + data[4:]

    def __repr__(self):
        return "Record(" + ", ".join(f"{name}={getattr(self, name)!r}" for name in RECORD_FIELDS) + ")"


class Keeper:
    """struct wire_keeper."""

    FIELDS = "kind protocol slot pid error count token is_taken_over unused".split()

    def __init__(self, data=None, **fields):
        values = KEEPER.unpack(data) if data else [fields.pop(name, 0) for name in self.FIELDS]
        assert not fields
        for name, value in zip(self.FIELDS, values):
            setattr(self, name, value)

    def pack(self):
        return KEEPER.pack(*(getattr(self, name) for name in self.FIELDS))

    def __repr__(self):
        return "Keeper(" + ", ".join(f"{name}={getattr(self, name)}" for name in self.FIELDS) + ")"


def send(sock, data, fds=()):
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])


def receive(sock):
    """(bytes, descriptors); empty bytes at the end of file. Blocks as long as the socket's timeout says."""
    data, control, _, _ = sock.recvmsg(1 << 17, socket.CMSG_SPACE(4 * 4))
    fds = array.array("i")
    for level, kind, payload in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[:len(payload) - len(payload) % fds.itemsize])
    return data, list(fds)


def strings(words):
    return b"".join((word if isinstance(word, bytes) else word.encode()) + b"\0" for word in words)


def start(slot, task, nonce, argv, *, attempt=1, directory="/", log="logs/out", blob="", stdin="", settings=(), flags=0,
          grace_ns=5 * 10**9, head=1 << 20, tail=16 << 20, umask=0o22, nice=0, payload=None):
    """(head, payload) of a START."""
    if payload is None:
        payload = strings([directory, log, blob, stdin, *argv, *settings])
    return START_HEAD.pack(START, slot, task, nonce, attempt, flags, grace_ns, head, tail, umask, nice, len(argv),
                           len(settings), len(payload)), payload
