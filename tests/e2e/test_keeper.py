"""drover-keeper and its shims, driven by a stand-in for the daemon that speaks wire.h.

The keeper starts a little program as its daemon, which passes the socket it was given to the test and waits to be told how
to end. So the test itself says what a daemon would say, and can die as one would.
"""
import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time

import pytest

import harness
import wire

LIMIT_S = 20
LIBC = ctypes.CDLL(None, use_errno=True)
F_OFD_SETLK = 37
NS = 10**9
MIB = 1 << 20

STAND_IN = """#!{python} -SE
import array, os, socket, sys
assert sys.argv[1] == '--keeper-fd' and sys.argv[3] == '--state'
fd = int(sys.argv[2])
link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
link.connect(os.path.join(sys.argv[4], 'rendezvous'))
link.sendmsg([str(os.getpid()).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [fd]))])
os.close(fd)
words = link.recv(64)
os._exit(int(words) if words else 0)
"""


def find_keeper():
    build = harness.find_build()
    for place in ('src/drover-keeper',):
        if os.path.exists(os.path.join(build, place)):
            return os.path.join(build, place)
    pytest.exit(f'there is no drover-keeper in {build}', returncode=3)


def find_cgroup_mount():
    with open('/proc/self/mountinfo') as file:
        for line in file:
            if ' - cgroup2 ' in line:
                return line.split()[4]
    return None


def cgroup_reason():
    """Why there are no cgroups to test with, or None."""
    mount = find_cgroup_mount()
    if not mount:
        return 'no cgroup2 file system is mounted'
    with open('/proc/self/cgroup') as file:
        own = next((line.strip()[3:] for line in file if line.startswith('0::')), '/')
    if not os.access(mount + own, os.W_OK):
        return f'the cgroup {own} is not writable for this user'
    return None


needs_cgroup = pytest.mark.skipif(cgroup_reason() is not None, reason=f'needs cgroup2: {cgroup_reason()}')


class Attempt:
    """One START on a shim."""

    def __init__(self, shim, task, nonce, log):
        self.shim, self.task, self.nonce, self.log = shim, task, nonce, log

    def started(self):
        kind, record = self.shim.message()
        assert kind == wire.STARTED, record
        assert record.task == self.task and record.leader_pid > 0
        return record

    def ended(self):
        kind, record = self.shim.message()
        assert kind == wire.ENDED, record
        assert (record.task, record.nonce) == (self.task, self.nonce)
        assert self.shim.world.record(self.shim.slot).pack() == record.pack()
        return record

    def output(self, suffix=''):
        with open(os.path.join(self.shim.world.state, self.log + suffix), 'rb') as file:
            return file.read()

    def size(self):
        with contextlib.suppress(FileNotFoundError):
            return os.stat(os.path.join(self.shim.world.state, self.log)).st_size
        return 0


class Shim:
    def __init__(self, world, slot, pid, channel, pidfd):
        self.world, self.slot, self.pid, self.pidfd = world, slot, pid, pidfd
        self.channel = socket.socket(fileno=channel)
        self.channel.settimeout(LIMIT_S)

    def close(self):
        self.channel.close()
        with contextlib.suppress(OSError):
            os.close(self.pidfd)

    def message(self):
        data, _ = wire.receive(self.channel)
        assert len(data) == 8 + wire.RECORD_SIZE, data
        kind, slot = wire.SHIM_HEAD.unpack(data[:8])
        assert slot == self.slot
        return kind, wire.Record(data[8:])

    def signal(self, number):
        signal.pidfd_send_signal(self.pidfd, number)

    def freeze(self, frozen=True):
        assert LIBC.sigqueue(self.pid, signal.SIGRTMIN + 6, ctypes.c_void_p(int(frozen))) == 0

    def thaw(self):
        self.freeze(False)

    def kill(self):
        self.signal(signal.SIGKILL)

    def send(self, argv, in_memfd=False, arm=True, **options):
        """Arms the record and sends START; an Attempt."""
        world = self.world
        world.last_task += 1
        task, nonce = world.last_task, world.last_task * 0x9E3779B97F4A7C15 % 2**64
        log = options.pop('log', f'logs/{task}')
        options.setdefault('settings', ['PATH=/usr/local/bin:/usr/bin:/bin'])
        if arm:
            world.arm(self.slot, task, nonce)
        head, payload = wire.start(self.slot, task, nonce, argv, log=log,
                                   flags=options.pop('flags', 0) | (wire.PAYLOAD_IN_FD if in_memfd else 0), **options)
        if in_memfd:
            fd = os.memfd_create('payload')
            with open(fd, 'wb') as file:
                file.write(payload)
                file.flush()
                wire.send(self.channel, head, [fd])
        else:
            wire.send(self.channel, head + payload)
        return Attempt(self, task, nonce, log)

    def run(self, argv, **options):
        """To the end: (record, attempt)."""
        attempt = self.send(argv, **options)
        attempt.started()
        return attempt.ended(), attempt

    def sh(self, script, **options):
        return self.run(['/bin/sh', '-c', script], **options)

    def fail(self, argv, **options):
        """The record of a start that fails."""
        record = self.send(argv, **options).ended()
        assert record.state == wire.R_FAILED
        return record


class World:
    """A keeper with state of its own, and ourselves as its daemon."""

    def __init__(self, before=(), **options):
        self.folder = tempfile.mkdtemp(prefix='drover-keeper-')
        self.state = os.path.join(self.folder, 'state')
        os.mkdir(self.state, 0o700)
        self.last_task = 0
        self.shims = []
        self.pids = set()
        self.link = self.socket = None
        self.is_attached = False
        self.program = os.path.join(self.folder, 'stand-in')
        with open(self.program, 'w') as file:
            file.write(STAND_IN.format(python=sys.executable))
        os.chmod(self.program, 0o700)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(os.path.join(self.state, 'rendezvous'))
        self.listener.listen(4)
        self.listener.settimeout(LIMIT_S)
        self.log = open(os.path.join(self.folder, 'keeper.log'), 'w+b')
        self.keeper = subprocess.Popen([*before, *self.command()], stdin=subprocess.DEVNULL, stdout=self.log,
                                       stderr=self.log, **options)
        self.accept()

    def command(self):
        return [find_keeper(), '--state', self.state, '--daemon', self.program]

    # -- the daemon's side ---------------------------------------------------------------------------------------------

    def accept(self):
        """Takes the socket of a newly started stand-in; its HELLO is read."""
        self.link, _ = self.listener.accept()
        self.link.settimeout(LIMIT_S)
        pid, fds = wire.receive(self.link)
        self.daemon_pid = int(pid)
        self.pids.add(self.daemon_pid)
        self.socket = socket.socket(fileno=fds[0])
        self.socket.settimeout(LIMIT_S)
        self.is_attached = False
        self.hello = self.message(wire.HELLO)[0]
        assert self.hello.protocol == wire.PROTOCOL

    def message(self, kind):
        data, fds = wire.receive(self.socket)
        assert data, 'the keeper closed the socket: ' + self.keeper_log()
        message = wire.Keeper(data)
        assert message.kind == kind, message
        return message, fds

    def order(self, kind, **fields):
        wire.send(self.socket, wire.Keeper(kind=kind, **fields).pack())

    def take_shim(self):
        message, fds = self.message(wire.SHIM)
        assert message.error == 0, os.strerror(-message.error)
        self.pids.add(message.pid)
        self.shims.append(Shim(self, message.slot, message.pid, *fds))
        return self.shims[-1]

    def shim(self, slot=0):
        self.order(wire.SPAWN_SHIM, slot=slot)
        return self.take_shim()

    def attach(self):
        """The shims that the keeper has, by slot."""
        self.order(wire.ATTACH)
        found = {}
        while True:
            data, fds = wire.receive(self.socket)
            message = wire.Keeper(data)
            if message.kind == wire.ATTACHED:
                assert message.count == len(found)
                return found
            assert message.kind == wire.SHIM and message.error == 0
            found[message.slot] = Shim(self, message.slot, message.pid, *fds)
            self.shims.append(found[message.slot])

    def drop_daemon(self):
        """All that dies with a daemon is closed."""
        self.socket.close()
        for shim in self.shims:
            shim.close()
        self.shims.clear()

    def kill_daemon(self):
        """As kill -9 would end one; the keeper starts another."""
        os.kill(self.daemon_pid, signal.SIGKILL)
        self.drop_daemon()
        self.link.close()
        self.accept()

    def end_daemon(self, code):
        self.drop_daemon()
        self.link.send(str(code).encode())
        self.link.close()

    # -- the slot file -------------------------------------------------------------------------------------------------

    def open_slots(self):
        return os.open(os.path.join(self.state, 'slots'), os.O_RDWR | os.O_CLOEXEC)

    def record(self, slot):
        fd = self.open_slots()
        try:
            for _ in range(1000):
                record = wire.Record(os.pread(fd, wire.RECORD_SIZE, wire.HEADER_SIZE + slot * wire.RECORD_SIZE))
                if record.is_valid:
                    return record
        finally:
            os.close(fd)
        raise AssertionError('the record stays damaged')

    def try_lock(self, fd, slot):
        lock = struct.pack('hhqqi4x', fcntl.F_WRLCK, os.SEEK_SET, wire.HEADER_SIZE + slot * wire.RECORD_SIZE,
                           wire.RECORD_SIZE, 0)
        try:
            fcntl.fcntl(fd, F_OFD_SETLK, lock)
            return True
        except BlockingIOError:
            return False

    def is_locked(self, slot):
        fd = self.open_slots()
        try:
            return not self.try_lock(fd, slot)
        finally:
            os.close(fd)

    def arm(self, slot, task, nonce):
        record = wire.Record()
        record.state, record.task, record.nonce, record.attempt = wire.ARMED, task, nonce, 1
        fd = self.open_slots()
        try:
            harness.wait_until(lambda: self.try_lock(fd, slot), LIMIT_S, 'the lock of the slot')
            os.pwrite(fd, record.pack(), wire.HEADER_SIZE + slot * wire.RECORD_SIZE)
        finally:
            os.close(fd)

    def cgroup(self):
        """The base of the attempts' groups."""
        with open(os.path.join(self.state, 'slots'), 'rb') as file:
            file.seek(512)
            path = file.read(wire.BASE_MAX).rstrip(b'\0').decode()
        return find_cgroup_mount() + path if path else None

    # -- the end -------------------------------------------------------------------------------------------------------

    def keeper_log(self):
        with open(self.log.name, errors='replace') as file:
            return file.read()

    def stop(self):
        """Ends everything; sentences about what is wrong."""
        faults = []
        base = self.cgroup()
        if self.keeper.poll() is None:
            if self.is_attached:
                self.order(wire.STOP)
            self.end_daemon(wire.EXIT_STOP)
            try:
                self.keeper.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                faults.append('the keeper did not end with its daemon')
                self.keeper.kill()
                self.keeper.wait()
        else:
            self.drop_daemon()
            with contextlib.suppress(OSError):
                self.link.close()
        for pid in self.pids:
            with contextlib.suppress(harness.Timeout):
                harness.wait_gone(pid, LIMIT_S)
                continue
            faults.append(f'process {pid} is still there: {harness.read_proc(pid, "cmdline")}')
            harness.signal_process(pid, signal.SIGKILL)
        try:
            harness.wait_until(lambda: not base or not os.path.isdir(base), LIMIT_S)
        except harness.Timeout:
            faults.append(f'processes are left in {base}, or nobody removed it')
            with open(os.path.join(base, 'cgroup.kill'), 'w') as file:
                file.write('1')
        log = self.keeper_log()
        if 'assertion failed' in log:
            faults.append(log)
        self.listener.close()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return faults


@pytest.fixture
def make_world():
    made = []

    def make(*arguments, **options):
        made.append(World(*arguments, **options))
        return made[-1]
    yield make
    faults = [fault for world in made for fault in world.stop()]
    harness.reap_orphans()
    assert not faults, '\n'.join(faults)


HIDE_CGROUPS = 'umount -l "$1" && shift && exec "$@"'


def without_cgroups():
    """What goes before the keeper so that it finds no cgroups; None when that cannot be done."""
    mount = find_cgroup_mount()
    if cgroup_reason():
        return []
    before = ['unshare', '-m', 'sh', '-c', HIDE_CGROUPS, 'sh', mount]
    return before if subprocess.run([*before, 'true'], stderr=subprocess.DEVNULL, check=False).returncode == 0 else None


@pytest.fixture(params=['cgroup', 'descent'])
def either_world(request, make_world):
    """A world whose keeper has cgroups, and one whose keeper has none and goes by descent."""
    if request.param == 'cgroup':
        if cgroup_reason():
            pytest.skip(f'needs cgroup2: {cgroup_reason()}')
        world = make_world()
        assert world.cgroup()
    else:
        before = without_cgroups()
        if before is None:
            pytest.skip('cgroups cannot be hidden from the keeper: no mount namespace for this user')
        world = make_world(before)
        assert not world.cgroup()
    return world


@pytest.fixture
def world(make_world):
    return make_world()


@pytest.fixture
def shim(world):
    return world.shim(0)


def ended_by(record):
    assert record.state == wire.R_ENDED, record
    return os.waitstatus_to_exitcode(record.wait_status)


# -- plain runs --------------------------------------------------------------------------------------------------------

def test_run(shim):
    record, attempt = shim.run(['/bin/echo', 'hello'])
    assert ended_by(record) == 0
    assert attempt.output() == b'hello\n'
    assert record.output_bytes == 6 and record.output_dropped == 0
    assert record.leader_pid > 0 and record.shim_pid == shim.pid and record.leader_start > 0
    assert record.started_ns < record.ended_ns
    assert record.memory_peak_bytes > 0
    assert record.strays == 0 and not record.has_left_running
    assert not shim.world.is_locked(0)
    status = os.stat(os.path.join(shim.world.state, attempt.log))
    assert stat.S_IMODE(status.st_mode) == 0o600


@pytest.mark.parametrize('status', [0, 1, 3, 127, 255])
def test_exit_status(shim, status):
    record, _ = shim.sh(f'exit {status}')
    assert ended_by(record) == status


@pytest.mark.parametrize('name', ['TERM', 'KILL', 'SEGV', 'PIPE', 'HUP'])
def test_death_by_signal(shim, name):
    record, _ = shim.sh(f'kill -{name} $$')
    assert ended_by(record) == -signal.Signals['SIG' + name]


def test_surroundings_of_a_task(world):
    """Session, descriptors, signals, directory, umask, priority and limits are what a fresh program expects."""
    shim = world.shim(3)
    folder = os.path.join(world.folder, 'a b')
    os.mkdir(folder)
    script = ('import os,resource,signal,sys\n'
              'print(os.getcwd())\n'
              'print(os.getsid(0) == os.getpid() == os.getpgrp())\n'
              'print(sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:4])\n'
              'print(os.readlink("/proc/self/fd/0"))\n'
              'print(os.umask(0), os.getpriority(os.PRIO_PROCESS, 0), resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n'
              'status = dict(line.split(":") for line in open("/proc/self/status"))\n'
              'print(int(status["SigBlk"], 16), int(status["SigIgn"], 16) & ~(1 << 12 | 1 << 24))\n')
    # 3 is the directory being listed; SIGPIPE and SIGXFSZ are ignored by Python itself.
    record, attempt = shim.run([sys.executable, '-c', script], directory=folder, umask=0o27, nice=4)
    lines = attempt.output().decode().splitlines()
    assert ended_by(record) == 0
    assert lines == [folder, 'True', '[0, 1, 2, 3]', '/dev/null',
                     f'{0o27} {os.getpriority(os.PRIO_PROCESS, 0) + 4} {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}',
                     '0 0']


def test_ignored_signals_and_open_files_of_the_starter_are_not_passed_on(make_world):
    """Who starts drover under nohup, or with a file open, must not give that to the tasks."""
    inherited = os.open('/dev/null', os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        world = make_world(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN), pass_fds=[inherited])
    finally:
        os.close(inherited)
    _, attempt = world.shim().sh('grep SigIgn /proc/self/status; ls /proc/self/fd')
    assert attempt.output().split() == [b'SigIgn:', b'0000000000000000', b'0', b'1', b'2', b'3']


def test_environment(world):
    shim = world.shim()
    os.mkdir(os.path.join(world.state, 'env'), 0o700)
    with open(os.path.join(world.state, 'env/7'), 'wb') as file:
        file.write(wire.strings(['A=blob', 'B=blob', 'C=', 'ODD', 'AB=blob']))
    for _ in range(2):  # loaded, and kept
        record, attempt = shim.run(['/usr/bin/env'], blob='env/7', settings=['B=first', 'D=new', 'B=second', 'PATH=/bin'])
        assert ended_by(record) == 0
        assert sorted(attempt.output().split()) == [b'A=blob', b'AB=blob', b'B=second', b'C=', b'D=new', b'ODD',
                                                    b'PATH=/bin']
    _, attempt = shim.run(['/usr/bin/env'], settings=['X=1'])
    assert attempt.output() == b'X=1\n'
    assert shim.fail(['/bin/true'], blob='env/missing').start_stage == wire.STAGE_ENVIRONMENT


def test_input(world):
    shim = world.shim()
    with open(os.path.join(world.folder, 'input'), 'w') as file:
        file.write('from a file')
    os.mkfifo(os.path.join(world.folder, 'fifo'))
    assert shim.run(['/bin/cat'])[1].output() == b''
    assert shim.run(['/bin/cat'], stdin='input', directory=world.folder)[1].output() == b'from a file'
    assert shim.run(['/bin/cat'], stdin='fifo', directory=world.folder)[1].output() == b''  # nobody writes: no wait
    record = shim.fail(['/bin/cat'], stdin='nothing', directory=world.folder)
    assert (record.start_stage, record.start_errno) == (wire.STAGE_INPUT, errno.ENOENT)


def test_search_in_path(world):
    """As execvp(3) does it: entries in order, an unusable one does not end the search, empty means the directory."""
    shim = world.shim()
    for name in ('none', 'denied', 'good'):
        os.mkdir(os.path.join(world.folder, name))
    for name, mode in (('denied', 0o644), ('good', 0o755)):
        path = os.path.join(world.folder, name, 'prog')
        with open(path, 'w') as file:
            file.write('echo no format, so the shell runs it: $0 $1')
        os.chmod(path, mode)
    where = {name: os.path.join(world.folder, name) for name in ('none', 'denied', 'good')}
    _, attempt = shim.run(['prog', 'x'], settings=['PATH={none}:{denied}:{good}'.format(**where)])
    assert attempt.output().decode() == f'no format, so the shell runs it: {where["good"]}/prog x\n'
    _, attempt = shim.run(['prog', 'y'], settings=['PATH=/none:'], directory=where['good'])
    assert attempt.output() == b'no format, so the shell runs it: prog y\n'
    record = shim.fail(['prog'], settings=['PATH={none}:{denied}'.format(**where)])
    assert (record.start_stage, record.start_errno) == (wire.STAGE_EXEC, errno.EACCES)
    record = shim.fail(['prog'], settings=['PATH={none}:/nowhere'.format(**where)])
    assert (record.start_stage, record.start_errno) == (wire.STAGE_EXEC, errno.ENOENT)


def test_failed_starts(world):
    """Told apart from each other and from a program that exits with 127; the slot stays usable."""
    shim = world.shim()
    script = os.path.join(world.folder, 'script')
    with open(script, 'w') as file:
        file.write('#!/nowhere/interpreter\n')
    os.chmod(script, 0o755)
    plain = os.path.join(world.folder, 'plain')
    with open(plain, 'w') as file:
        file.write('echo\n')
    os.makedirs(os.path.join(world.state, 'logs/taken'))
    cases = [
        (dict(argv=['/nowhere/program']), wire.STAGE_EXEC, errno.ENOENT),
        (dict(argv=['no-such-program']), wire.STAGE_EXEC, errno.ENOENT),
        (dict(argv=['']), wire.STAGE_EXEC, errno.ENOENT),
        (dict(argv=[plain]), wire.STAGE_EXEC, errno.EACCES),
        (dict(argv=['/']), wire.STAGE_EXEC, errno.EACCES),
        (dict(argv=[script]), wire.STAGE_INTERPRETER, errno.ENOENT),
        (dict(argv=['/bin/echo', 'x' * (128 << 10)], in_memfd=True), wire.STAGE_EXEC, errno.E2BIG),
        (dict(argv=['/bin/echo', *['x' * 1000] * 4000], in_memfd=True), wire.STAGE_EXEC, errno.E2BIG),
        (dict(argv=['/bin/true'], directory='/nowhere'), wire.STAGE_DIRECTORY, errno.ENOENT),
        (dict(argv=['/bin/true'], directory=plain), wire.STAGE_DIRECTORY, errno.ENOTDIR),
        (dict(argv=['/bin/true'], log='logs/taken'), wire.STAGE_OUTPUT, errno.EISDIR),
        (dict(argv=['/bin/true'], payload=b'/\0logs/x\0\0\0/bin/true'), wire.STAGE_ENVIRONMENT, errno.EINVAL),
    ]
    for options, stage, error in cases:
        record = shim.fail(**options)
        assert (record.start_stage, record.start_errno) == (stage, error), options
        assert not world.is_locked(0)
    record, attempt = shim.run(['/bin/echo', 'y' * 100000], in_memfd=True)
    assert ended_by(record) == 0 and attempt.output() == b'y' * 100000 + b'\n'
    assert ended_by(shim.sh('no-such-program')[0]) == 127


def test_refused_unless_armed_for_this_start(world):
    shim = world.shim(5)
    shim.send(['/bin/true'], arm=False)
    kind, record = shim.message()
    assert kind == wire.REFUSED and record.state == wire.FREE
    world.arm(5, 77, 1)
    shim.send(['/bin/true'], arm=False)
    kind, record = shim.message()
    assert kind == wire.REFUSED and record.task != 77  # it names its START, not what the record says
    armed = world.record(5)
    assert (armed.task, armed.attempt, armed.state) == (77, 1, wire.ARMED)
    fd = world.open_slots()
    assert world.try_lock(fd, 5)  # as another shim of the slot would hold it
    shim.send(['/bin/true'], arm=False)
    assert shim.message()[0] == wire.REFUSED
    os.close(fd)
    assert not os.path.exists(os.path.join(world.state, 'logs'))
    assert ended_by(shim.run(['/bin/true'])[0]) == 0


def test_empty_log_of_an_earlier_start_is_used_again_and_no_other(world):
    shim = world.shim()
    os.mkdir(os.path.join(world.state, 'logs'))
    open(os.path.join(world.state, 'logs/empty'), 'w').close()
    _, attempt = shim.run(['/bin/echo', 'x'], log='logs/empty')
    assert attempt.output() == b'x\n'
    assert shim.fail(['/bin/echo', 'y'], log='logs/empty').start_errno == errno.EEXIST
    os.symlink('/dev/null', os.path.join(world.state, 'logs/link'))
    assert shim.fail(['/bin/echo', 'y'], log='logs/link').start_stage == wire.STAGE_OUTPUT


# -- output ------------------------------------------------------------------------------------------------------------

def test_split_output(shim):
    record, attempt = shim.sh('echo out; echo err >&2', flags=wire.SPLIT_OUTPUT)
    assert attempt.output() == b'out\n' and attempt.output('.err') == b'err\n'
    assert (record.output_bytes, record.output_bytes1) == (4, 4)


def test_reopened_stderr_loses_nothing(shim):
    """A plain file as standard error would be truncated by this."""
    _, attempt = shim.sh('echo one; echo two > /dev/stderr; echo three; echo four > /dev/stdout; echo five')
    assert attempt.output() == b'one\ntwo\nthree\nfour\nfive\n'


def test_log_removed_by_the_task(shim):
    """The log is gone then, the task is not."""
    world = shim.world
    record, _ = shim.sh(f'echo one; rm {world.state}/logs/1; echo two; ln -s /etc/passwd {world.state}/logs/1; echo three')
    assert ended_by(record) == 0 and record.output_bytes == 14


@pytest.mark.parametrize('split', [False, True])
def test_cap_keeps_head_and_tail(shim, split):
    """80 MB: little room on disk, the first and the last bytes right, the gap where the record says."""
    count = 9_999_999
    script = f'seq -f %07.0f 1 {count}' if not split else f'seq -f %07.0f 1 {count} >&2'
    record, attempt = shim.sh(script, flags=wire.SPLIT_OUTPUT if split else 0, head=MIB, tail=4 * MIB)
    suffix, names = ('.err', ('output_bytes1', 'output_dropped1', 'output_gap_at1')) if split else (
        '', ('output_bytes', 'output_dropped', 'output_gap_at'))
    total, dropped, gap = (getattr(record, name) for name in names)
    path = os.path.join(shim.world.state, attempt.log + suffix)
    status = os.stat(path)
    assert ended_by(record) == 0
    assert total == count * 8 == status.st_size
    assert gap == MIB and 0 <= total - dropped - 5 * MIB <= 2 * MIB
    assert status.st_blocks * 512 <= 8 * MIB
    with open(path, 'rb') as file:
        assert file.read(gap) == b''.join(b'%07d\n' % i for i in range(1, gap // 8 + 1))
        file.seek(gap + dropped)
        assert file.read() == b''.join(b'%07d\n' % i for i in range((gap + dropped) // 8 + 1, count + 1))


def test_silent_and_tiny_writes(shim):
    script = 'import os\nfor i in range(20000): os.write(1, b"%c" % (97 + i % 26))'
    record, attempt = shim.run([sys.executable, '-c', script])
    assert record.output_bytes == 20000
    assert attempt.output() == bytes(97 + i % 26 for i in range(20000))


def mount_tmpfs(folder, size):
    """A mount that only the keeper's namespace has: what goes before the keeper."""
    script = f'mount -t tmpfs -o size={size} tmpfs "$1" && shift && exec "$@"'
    return ['unshare', '-m', 'sh', '-c', script, 'sh', folder]


def test_full_disk_drops_output_and_nothing_else(make_world):
    """The logs' file system is full: the task ends as it would have, and the record says what was dropped."""
    folder = tempfile.mkdtemp(prefix='drover-full-')
    try:
        before = mount_tmpfs(folder, '1m')
        if subprocess.run([*before, 'true'], stderr=subprocess.DEVNULL, check=False).returncode != 0:
            pytest.skip('no tmpfs may be mounted: not root')
        world = make_world(before)
        shim = world.shim()
        os.symlink(folder, os.path.join(world.state, 'logs'))
        record, _ = shim.sh(f'head -c 3000000 /dev/zero | tr "\\0" x; rm -f {folder}/filler; exit 7')
        assert ended_by(record) == 7
        assert record.output_bytes == 3000000
        assert 3000000 - MIB <= record.output_dropped < 3000000 and record.output_gap_at == 3000000 - record.output_dropped
        record, _ = shim.sh(f'head -c 900000 /dev/zero; cat {folder}/1 | wc -c', log='logs/2')
        assert ended_by(record) == 0 and record.output_dropped > 0
    finally:
        os.rmdir(folder)


# -- what belongs to an attempt ----------------------------------------------------------------------------------------

def lines_of(attempt, count):
    """The first lines of the output, as soon as they are there."""
    harness.wait_until(lambda: attempt.size() and attempt.output().count(b'\n') >= count, LIMIT_S, f'{count} lines')
    return attempt.output().split(b'\n')[:count]


def test_strays_are_ended_after_their_grace_and_counted(either_world):
    """What the leader leaves: a child, one in a session of its own, and a double-forked one that ignores SIGTERM."""
    shim = either_world.shim()
    script = ('sleep 1000 & setsid sleep 1000 & '
              '(trap "" TERM HUP; setsid sh -c "echo \\$\\$; sleep 1000; true" &); wait_for() { :; }; echo $!; exit 3')
    attempt = shim.send(['/bin/sh', '-c', script], grace_ns=NS // 10)
    attempt.started()
    record = attempt.ended()
    assert ended_by(record) == 3
    assert record.strays >= 3
    for pid in map(int, attempt.output().split()):
        assert not harness.is_running(pid)


def test_strays_that_end_in_time_are_not_killed(either_world):
    record, attempt = either_world.shim().sh('(sleep 0.2; echo late) & echo early; exit 0', grace_ns=20 * NS)
    assert record.strays == 0 and attempt.output() == b'early\nlate\n'
    assert record.ended_ns - record.started_ns < NS  # the leader's end


def test_wait_all(either_world):
    record, attempt = either_world.shim().sh('(sleep 0.3; echo late) & exit 4', grace_ns=0, flags=wire.WAIT_ALL)
    assert ended_by(record) == 4 and record.strays == 0 and attempt.output() == b'late\n'
    assert record.ended_ns - record.started_ns > 3 * NS // 10


def test_leave_running(either_world):
    """The slot is free at once, the process lives on, and its output still arrives."""
    world = either_world
    shim = world.shim()
    fifo = os.path.join(world.folder, 'fifo')
    os.mkfifo(fifo)
    record, attempt = shim.sh(f'(trap "" TERM; cat {fifo}; echo $$ done) & echo $!; exit 0', flags=wire.LEAVE_RUNNING)
    assert ended_by(record) == 0 and record.has_left_running == 1 and record.strays == 0
    gone, _ = world.message(wire.SHIM_GONE)
    assert (gone.slot, gone.pid, gone.is_taken_over) == (0, shim.pid, 0)
    again, other = world.shim().run(['/bin/echo', 'next'])
    assert ended_by(again) == 0 and other.output() == b'next\n'
    if world.cgroup():
        assert again.cgroup_serial != record.cgroup_serial
    pid = int(attempt.output())
    assert harness.is_running(pid)
    with open(fifo, 'w') as file:
        file.write('words\n')
    harness.wait_gone(pid)
    assert b'words\n' in b'\n'.join(lines_of(attempt, 3)) + b'\n'
    assert world.record(0).pack() == again.pack()


def test_leave_running_though_the_shim_was_killed(either_world):
    world = either_world
    shim = world.shim()
    fifos = [os.path.join(world.folder, name) for name in ('first', 'second')]
    for fifo in fifos:
        os.mkfifo(fifo)
    attempt = shim.send(['/bin/sh', '-c', f'(cat {fifos[1]}; echo more; echo done) & echo $!; cat {fifos[0]}'],
                        flags=wire.LEAVE_RUNNING)
    attempt.started()
    pid = int(lines_of(attempt, 1)[0])
    shim.kill()
    assert world.message(wire.SHIM_GONE)[0].is_taken_over == 1
    attempt.shim = world.take_shim()
    open(fifos[0], 'w').close()
    record = attempt.ended()
    assert record.state == wire.R_UNKNOWN and record.has_left_running == 1
    assert world.message(wire.SHIM_GONE)[0].is_taken_over == 0
    assert harness.is_running(pid)
    with open(fifos[1], 'w') as file:
        file.write('words\n')
    assert lines_of(attempt, 4)[1:] == [b'words', b'more', b'done']


def test_terminate(either_world):
    """SIGTERM reaches the leader's group; who wants to may end in an orderly way."""
    shim = either_world.shim()
    attempt = shim.send(['/bin/sh', '-c', 'trap "echo bye; exit 9" TERM; echo up; sleep 1000 & wait'], grace_ns=0)
    attempt.started()
    lines_of(attempt, 1)
    shim.signal(signal.SIGTERM)
    assert ended_by(attempt.ended()) == 9
    assert attempt.output() == b'up\nbye\n'


def test_kill_of_one_that_ignores_terminate(either_world):
    shim = either_world.shim()
    script = 'trap "" TERM; (setsid sh -c "echo \\$\\$; sleep 1000; true" &); echo $$; while :; do sleep 1000; done'
    attempt = shim.send(['/bin/sh', '-c', script])
    attempt.started()
    pids = list(map(int, lines_of(attempt, 2)))
    shim.signal(signal.SIGTERM)
    assert harness.is_running(pids[0])
    shim.signal(signal.SIGUSR1)
    assert ended_by(attempt.ended()) == -signal.SIGKILL
    assert not any(map(harness.is_running, pids))


def test_signals_without_an_attempt_are_forgotten(shim):
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT, signal.SIGRTMIN + 6):
        shim.signal(number)
    assert ended_by(shim.run(['/bin/true'])[0]) == 0
    shim.signal(signal.SIGUSR1)
    assert ended_by(shim.run(['/bin/true'])[0]) == 0


def is_stopped(world, pid):
    """Stopped by a signal (D: it stands in a vfork whose child is stopped) or frozen by its cgroup."""
    if harness.stat_fields(pid)[0] in (b'T', b'D'):
        return True
    group = world.cgroup()
    if not group:
        return False
    with open(os.path.join(group, 'slot-0/cgroup.events')) as file:
        return 'frozen 1' in file.read()


def test_freeze_and_thaw(either_world):
    """A child in a session of its own is meant too."""
    shim = either_world.shim()
    fifo = os.path.join(either_world.folder, 'fifo')
    os.mkfifo(fifo)
    attempt = shim.send(['/bin/sh', '-c', f'setsid sh -c "echo \\$\\$; cat {fifo}" & echo $$; wait'])
    attempt.started()
    pids = list(map(int, lines_of(attempt, 2)))
    shim.freeze()
    for pid in pids:
        harness.wait_until(lambda: is_stopped(either_world, pid), LIMIT_S, 'a frozen process')
    shim.thaw()
    for pid in pids:
        harness.wait_until(lambda: not is_stopped(either_world, pid), LIMIT_S, 'a thawed process')
    with open(fifo, 'w') as file:
        file.write('on')
    assert ended_by(attempt.ended()) == 0


def stands_still(world, path, by):
    """True when a file has not grown while another shim ran a task."""
    before = os.path.getsize(path)
    assert ended_by(by.run(['/bin/true'])[0]) == 0
    return os.path.getsize(path) == before


def moving(root):
    """Descendants of a process that are not stopped."""
    parents = {}
    for name in filter(str.isdigit, os.listdir('/proc')):
        fields = harness.stat_fields(int(name))
        if fields and fields[0] not in (b'Z', b'X'):
            parents[int(name)] = (int(fields[1]), fields[0])

    def is_below(pid):
        while pid in parents and pid != root:
            pid = parents[pid][0]
        return pid == root
    return [pid for pid, (_, state) in parents.items() if pid != root and state != b'T' and is_below(pid)]


def wait_frozen(world, shim):
    """Until the whole tree of the shim's attempt is frozen or stopped."""
    if world.cgroup():
        harness.wait_until(lambda: is_stopped(world, shim.pid), LIMIT_S, 'a frozen group')
    else:
        harness.wait_until(lambda: not moving(shim.pid) and not moving(shim.pid), LIMIT_S, 'a stopped tree')


def wait_grown(path, limit_s=LIMIT_S):
    before = os.path.getsize(path)
    harness.wait_until(lambda: os.path.getsize(path) > before, limit_s, f'{path} grows')


FORKER = """
import os, sys
path = sys.argv[1]
def work():
    while True:
        pid = os.fork()
        if pid == 0:
            if os.fork() == 0:
                os.setsid()
                with open(path, 'ab') as file:
                    file.write(b'x')
            os._exit(0)
        os.waitpid(pid, 0)
for _ in range(4):
    if os.fork() == 0:
        os.setsid()
        work()
work()
"""


def test_freeze_of_what_forks_all_the_time(either_world):
    """Sessions of their own, orphans, children born while we look: all stand still, and all go on."""
    world = either_world
    path = harness.write(os.path.join(world.folder, 'count'), '')
    shim, other = world.shim(0), world.shim(1)
    attempt = shim.send([sys.executable, '-c', FORKER, path])
    attempt.started()
    wait_grown(path)
    for _ in range(3):
        shim.freeze()
        wait_frozen(world, shim)
        assert all(stands_still(world, path, other) for _ in range(5))
        shim.thaw()
        wait_grown(path)
    shim.freeze()
    shim.signal(signal.SIGUSR1)
    attempt.ended()
    assert stands_still(world, path, other)


def test_what_the_task_had_stopped_stays_stopped(either_world):
    shim = either_world.shim()
    fifo = os.path.join(either_world.folder, 'fifo')
    os.mkfifo(fifo)
    attempt = shim.send(['/bin/sh', '-c', f'cat /dev/zero > /dev/null & kill -STOP $!; echo $!; cat {fifo}; kill -9 $!'])
    leader = attempt.started().leader_pid
    stopped = int(lines_of(attempt, 1)[0])
    harness.wait_until(lambda: harness.stat_fields(stopped)[0] == b'T', LIMIT_S, 'the task stopped it')
    for _ in range(2):
        shim.freeze()
        harness.wait_until(lambda: is_stopped(either_world, leader), LIMIT_S, 'a frozen process')
        shim.thaw()
        harness.wait_until(lambda: not is_stopped(either_world, leader), LIMIT_S, 'a thawed process')
        assert harness.stat_fields(stopped)[0] == b'T'
    with open(fifo, 'w') as file:
        file.write('on')
    assert ended_by(attempt.ended()) == 0
    harness.wait_gone(stopped)


def test_orders_count_in_the_order_they_were_given(either_world):
    """Both wait for a shim that somebody stopped; the keeper has it go on, and the last word is what holds."""
    shim = either_world.shim()
    attempt = shim.send(['/bin/sh', '-c', 'echo up; exec sleep 1000'])
    leader = attempt.started().leader_pid
    lines_of(attempt, 1)
    for frozen in (True, False, True, False):
        os.kill(shim.pid, signal.SIGSTOP)
        for number in range(6):
            shim.freeze(frozen == bool(number % 2))
        harness.wait_until(lambda: is_stopped(either_world, leader) == frozen, LIMIT_S, f'frozen is {frozen}')
        assert harness.is_running(shim.pid)
    shim.signal(signal.SIGTERM)
    assert ended_by(attempt.ended()) == -signal.SIGTERM


def test_shim_killed_while_its_attempt_is_frozen(either_world):
    """It stays frozen, the successor lets it go on, and what the task wrote before and after is there."""
    world = either_world
    shim = world.shim()
    fifo = os.path.join(world.folder, 'fifo')
    os.mkfifo(fifo)
    attempt = shim.send(['/bin/sh', '-c', f'echo before; cat {fifo}; echo after'])
    leader = attempt.started().leader_pid
    lines_of(attempt, 1)
    shim.freeze()
    harness.wait_until(lambda: world.record(0).is_frozen == 1, LIMIT_S, 'the record tells it')
    harness.wait_until(lambda: is_stopped(world, leader), LIMIT_S, 'a frozen process')
    shim.kill()
    assert world.message(wire.SHIM_GONE)[0].is_taken_over == 1
    attempt.shim = successor = world.take_shim()
    harness.wait_until(lambda: world.record(0).shim_pid == successor.pid, LIMIT_S, 'the record names the new shim')
    assert is_stopped(world, leader) and harness.is_running(leader)
    successor.thaw()
    harness.wait_until(lambda: not is_stopped(world, leader), LIMIT_S, 'a thawed process')
    with open(fifo, 'w') as file:
        file.write('between\n')
    assert attempt.ended().state == wire.R_UNKNOWN
    assert attempt.output() == b'before\nbetween\nafter\n'


def test_strays_of_a_frozen_attempt_keep_their_grace(either_world):
    """Their time stands still too, when the leader had ended before and when it was killed while it was frozen."""
    world = either_world
    other = world.shim(1)
    for is_killed in (False, True):
        shim = world.shim(0)
        script = 'sleep 1000 & echo $!; ' + ('exec sleep 1000' if is_killed else 'exit 0')
        attempt = shim.send(['/bin/sh', '-c', script], grace_ns=NS // 2)
        leader = attempt.started().leader_pid
        stray = int(lines_of(attempt, 1)[0])
        if not is_killed:
            harness.wait_gone(leader)
        shim.freeze()
        harness.wait_until(lambda: is_stopped(world, stray), LIMIT_S, 'a frozen process')
        if is_killed:
            harness.signal_process(leader, signal.SIGKILL)
            harness.wait_gone(leader)
        begin = time.monotonic()
        harness.wait_until(lambda: ended_by(other.run(['/bin/true'])[0]) or time.monotonic() - begin > 0.8, 10)
        assert harness.is_running(stray)
        shim.thaw()
        record = attempt.ended()
        assert not harness.is_running(stray) and record.strays == 1
        assert ended_by(record) == (-signal.SIGKILL if is_killed else 0)


def test_what_is_left_running_is_not_left_frozen(either_world):
    world = either_world
    path = harness.write(os.path.join(world.folder, 'count'), '')
    shim = world.shim()
    attempt = shim.send(['/bin/sh', '-c', f'(while :; do echo x >> {path}; done) & echo $!; exec sleep 1000'],
                        flags=wire.LEAVE_RUNNING)
    leader = attempt.started().leader_pid
    left = int(lines_of(attempt, 1)[0])
    shim.freeze()
    harness.wait_until(lambda: is_stopped(world, left) and is_stopped(world, leader), LIMIT_S, 'frozen processes')
    harness.signal_process(leader, signal.SIGKILL)
    assert attempt.ended().has_left_running == 1
    wait_grown(path)
    harness.signal_process(left, signal.SIGKILL)
    harness.wait_gone(left)


LEADERLESS = """
import ctypes, os, sys, threading
def work():
    while True:
        with open(sys.argv[1], 'ab') as file:
            file.write(b'x')
threading.Thread(target=work, daemon=True).start()
ctypes.CDLL(None).syscall(60, 0)  # exit(2) of this thread alone
"""


@pytest.mark.skipif(os.uname().machine != 'x86_64', reason='the number of exit(2) is for x86_64')
def test_process_whose_first_thread_has_ended(either_world):
    """/proc shows it as a zombie, but it lives: it is frozen, thawed and killed like any other."""
    world = either_world
    path = harness.write(os.path.join(world.folder, 'count'), '')
    shim, other = world.shim(0), world.shim(1)
    attempt = shim.send([sys.executable, '-c', LEADERLESS, path])
    leader = attempt.started().leader_pid
    harness.wait_until(lambda: harness.stat_fields(leader)[0] == b'Z', LIMIT_S, 'its first thread has ended')
    wait_grown(path)
    shim.freeze()
    harness.wait_until(lambda: stands_still(world, path, other), LIMIT_S, 'nothing moves')
    assert stands_still(world, path, other)
    shim.thaw()
    wait_grown(path)
    shim.signal(signal.SIGUSR1)
    assert ended_by(attempt.ended()) == -signal.SIGKILL


def test_a_stopped_task_hears_that_it_is_to_end(either_world):
    """It stopped its whole process group, itself included."""
    shim = either_world.shim()
    attempt = shim.send(['/bin/sh', '-c', 'trap "echo bye; exit 3" TERM; echo up; kill -STOP 0; while :; do :; done'])
    leader = attempt.started().leader_pid
    harness.wait_until(lambda: harness.stat_fields(leader)[0] == b'T', LIMIT_S, 'it stopped itself')
    shim.signal(signal.SIGTERM)
    assert ended_by(attempt.ended()) == 3
    assert attempt.output() == b'up\nbye\n'


@pytest.mark.parametrize('number', [signal.SIGUSR1, signal.SIGTERM])
def test_end_of_a_frozen_one(either_world, number):
    """Killed as it is, or thawed first to be asked; the slot's next attempt is not frozen."""
    shim = either_world.shim()
    attempt = shim.send(['/bin/sh', '-c', 'echo $$; exec sleep 1000'])
    pid = attempt.started().leader_pid
    lines_of(attempt, 1)
    shim.freeze()
    harness.wait_until(lambda: is_stopped(either_world, pid), LIMIT_S, 'a frozen process')
    shim.signal(number)
    assert ended_by(attempt.ended()) == (-signal.SIGKILL if number == signal.SIGUSR1 else -signal.SIGTERM)
    assert ended_by(shim.run(['/bin/true'])[0]) == 0


@needs_cgroup
def test_fork_bomb_is_killed(world):
    """Bounded here, but faster than anyone could count."""
    shim = world.shim()
    script = ('import os, select\nos.write(1, b"x\\n")\n'
              'while True:\n  if os.fork():\n    os._exit(0)\n  os.setsid()\n  select.select([], [], [], 0.005)\n')
    attempt = shim.send([sys.executable, '-c', script], grace_ns=3600 * NS)
    attempt.started()
    lines_of(attempt, 1)
    shim.signal(signal.SIGUSR1)
    attempt.ended()
    harness.wait_until(lambda: not os.path.exists(os.path.join(world.cgroup(), 'slot-0')), LIMIT_S, 'the group is removed')


@needs_cgroup
def test_group_killed_by_somebody_else(world):
    """The kernel kills at birth whatever is cloned into a group that was killed once: no task may meet that."""
    shim = world.shim()
    for _ in range(3):
        assert ended_by(shim.run(['/bin/true'])[0]) == 0
        with open(os.path.join(world.cgroup(), 'slot-0/cgroup.kill'), 'w') as file:
            file.write('1')
        record, attempt = shim.run(['/bin/echo', 'x'])
        assert ended_by(record) == 0 and attempt.output() == b'x\n' and record.cgroup_base != 0
    os.rmdir(os.path.join(world.cgroup(), 'slot-0'))
    record, _ = shim.run(['/bin/true'])
    assert ended_by(record) == 0 and record.cgroup_base != 0


@needs_cgroup
def test_shim_is_not_in_the_cgroup_of_its_attempt(shim):
    """Or it would be killed and frozen with it."""
    _, attempt = shim.sh('cat /proc/self/cgroup')
    own = next(line for line in harness.read_proc(shim.pid, 'cgroup').splitlines() if line.startswith(b'0::'))
    theirs = next(line for line in attempt.output().splitlines() if line.startswith(b'0::'))
    assert theirs.endswith(b'/slot-0') and not own.endswith(b'/slot-0')


def test_usage_of_all_processes(shim):
    """Orphans count too."""
    burn = 'i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done'
    record, _ = shim.sh(f'(setsid sh -c "{burn.replace("$", chr(92) + "$")}" &); {burn}', grace_ns=20 * NS)
    single, _ = shim.sh(burn)
    assert record.strays == 0
    assert record.user_us + record.system_us > 1.3 * (single.user_us + single.system_us)


def test_zombies_left_by_the_task_are_reaped(shim):
    attempt = shim.send(['/bin/sh', '-c', 'for i in 1 2 3 4 5; do (setsid true &); done; sleep 0.1; echo up; sleep 1000'])
    attempt.started()
    lines_of(attempt, 1)
    harness.wait_until(lambda: len(harness.children_of(shim.pid)) == 1, LIMIT_S, 'only the leader is left')
    shim.signal(signal.SIGUSR1)
    attempt.ended()


# -- deaths ------------------------------------------------------------------------------------------------------------

def test_shim_killed(either_world):
    """The task goes on, its output goes on, and its end is noticed though not how."""
    world = either_world
    shim = world.shim()
    fifo = os.path.join(world.folder, 'fifo')
    os.mkfifo(fifo)
    attempt = shim.send(['/bin/sh', '-c', f'echo before; cat {fifo}; echo after; exit 5'])
    pid = attempt.started().leader_pid
    lines_of(attempt, 1)
    shim.kill()
    gone, _ = world.message(wire.SHIM_GONE)
    assert (gone.slot, gone.pid, gone.is_taken_over) == (0, shim.pid, 1)
    successor = world.take_shim()
    assert successor.pid != shim.pid and harness.is_running(pid)
    harness.wait_until(lambda: world.record(0).shim_pid == successor.pid, LIMIT_S, 'the record names the new shim')
    assert world.is_locked(0)
    with open(fifo, 'w') as file:
        file.write('between\n')
    attempt.shim = successor
    record = attempt.ended()
    assert record.state == wire.R_UNKNOWN
    assert attempt.output() == b'before\nbetween\nafter\n' and record.output_bytes == 21
    gone, _ = world.message(wire.SHIM_GONE)
    assert (gone.pid, gone.is_taken_over) == (successor.pid, 0)
    assert ended_by(world.shim().run(['/bin/true'])[0]) == 0


def test_task_kills_its_shim_and_the_successors(world):
    """kill -9 $PPID, and once more the shim that took over: still no byte is lost."""
    shim = world.shim()
    fifo = os.path.join(world.folder, 'fifo')
    os.mkfifo(fifo)
    attempt = shim.send(['/bin/sh', '-c', f'echo one; kill -9 $PPID; echo two; cat {fifo}; echo four'])
    assert world.message(wire.SHIM_GONE)[0].is_taken_over == 1
    second = world.take_shim()
    lines_of(attempt, 2)
    second.kill()
    assert world.message(wire.SHIM_GONE)[0].is_taken_over == 1
    third = world.take_shim()
    with open(fifo, 'w') as file:
        file.write('three\n')
    attempt.shim = third
    assert attempt.ended().state == wire.R_UNKNOWN
    assert attempt.output() == b'one\ntwo\nthree\nfour\n'


def test_successor_obeys(either_world):
    """Freezes, thaws, ends and kills what its predecessor started, and ends what the leader leaves."""
    world = either_world
    for number in (signal.SIGTERM, signal.SIGUSR1):
        shim = world.shim()
        attempt = shim.send(['/bin/sh', '-c', 'sleep 1000 & echo $$; echo $!; wait'], grace_ns=0)
        attempt.started()
        pids = list(map(int, lines_of(attempt, 2)))
        shim.kill()
        assert world.message(wire.SHIM_GONE)[0].is_taken_over == 1
        attempt.shim = successor = world.take_shim()
        harness.wait_until(lambda: world.record(0).shim_pid == successor.pid, LIMIT_S, 'the record names the new shim')
        successor.freeze()
        for pid in pids:
            harness.wait_until(lambda: is_stopped(world, pid), LIMIT_S, 'a frozen process')
        successor.signal(number)
        assert attempt.ended().state == wire.R_UNKNOWN
        for pid in pids:
            harness.wait_gone(pid)
        world.message(wire.SHIM_GONE)


def test_idle_shim_killed(world):
    shim = world.shim()
    shim.run(['/bin/true'])
    shim.kill()
    gone, _ = world.message(wire.SHIM_GONE)
    assert (gone.pid, gone.is_taken_over) == (shim.pid, 0)
    assert ended_by(world.shim().run(['/bin/true'])[0]) == 0


def test_shim_put_over_an_attempt_that_lost_its_keeper_too(either_world):
    """SPAWN_SHIM with is_taken_over: nothing was handed over, so only the processes can be watched."""
    world = either_world
    shim = world.shim()
    attempt = shim.send(['/bin/sh', '-c', 'trap "" PIPE; echo up; while sleep 1000; do :; done'])
    pid = attempt.started().leader_pid
    lines_of(attempt, 1)
    saved = world.record(0)
    world.keeper.kill()
    world.keeper.wait()
    shim.kill()
    world.drop_daemon()
    world.link.send(b'0')
    world.link.close()
    harness.wait_until(lambda: not world.is_locked(0), LIMIT_S, 'the lock is free')
    assert world.record(0).state == wire.R_STARTED and harness.is_running(pid)
    world.keeper = subprocess.Popen([*(without_cgroups() if not world.cgroup() else []), *world.command()],
                                    stdin=subprocess.DEVNULL, stdout=world.log, stderr=world.log)
    world.accept()
    world.order(wire.SPAWN_SHIM, slot=0, is_taken_over=1)
    attempt.shim = world.take_shim()
    harness.wait_until(lambda: world.is_locked(0), LIMIT_S, 'the record is locked')
    attempt.shim.signal(signal.SIGUSR1)
    record = attempt.ended()
    assert record.state == wire.R_UNKNOWN and record.started_ns == saved.started_ns
    harness.wait_gone(pid)


def test_daemon_killed(world):
    """Tasks go on; the next daemon gets the shims, hears the end of what runs, and reads of what ended."""
    shims = [world.shim(slot) for slot in range(3)]
    fifo = os.path.join(world.folder, 'fifo')
    os.mkfifo(fifo)
    running = shims[0].send(['/bin/sh', '-c', f'echo up; cat {fifo}; exit 6'])
    leader = running.started().leader_pid
    os.mkfifo(fifo + '.short')
    short = shims[1].send(['/bin/sh', '-c', f'read x < {fifo}.short; exit 8'])
    short.started()
    pids = {shim.slot: shim.pid for shim in shims}
    with open(fifo + '.short', 'w') as file:
        world.kill_daemon()
        file.write('x\n')
    harness.wait_until(lambda: world.record(1).state == wire.R_ENDED, LIMIT_S, 'the record of the end')
    assert os.waitstatus_to_exitcode(world.record(1).wait_status) == 8
    found = world.attach()
    assert {slot: shim.pid for slot, shim in found.items()} == pids
    assert harness.is_running(leader)
    short.shim = found[1]
    assert ended_by(short.ended()) == 8  # what the dead daemon did not read is still there
    with open(fifo, 'w') as file:
        file.write('x')
    running.shim = found[0]
    assert ended_by(running.ended()) == 6
    assert ended_by(found[2].run(['/bin/true'])[0]) == 0


def test_daemon_killed_again_and_again(world):
    shim = world.shim()
    attempt = shim.send(['/bin/sh', '-c', 'echo up; exec sleep 1000'])
    attempt.started()
    for _ in range(3):
        world.kill_daemon()
    attempt.shim = world.attach()[0]
    attempt.shim.signal(signal.SIGTERM)
    assert ended_by(attempt.ended()) == -signal.SIGTERM


def test_shim_killed_while_there_is_no_daemon(world):
    shim = world.shim()
    attempt = shim.send(['/bin/sh', '-c', 'echo one; exec sleep 1000'])
    attempt.started()
    lines_of(attempt, 1)
    os.kill(world.daemon_pid, signal.SIGSTOP)
    os.kill(shim.pid, signal.SIGKILL)
    world.kill_daemon()
    found = world.attach()
    assert found[0].pid != shim.pid
    attempt.shim = found[0]
    found[0].signal(signal.SIGTERM)
    assert attempt.ended().state == wire.R_UNKNOWN


def test_keeper_killed(world):
    """Task and shim finish, the record is right; the daemon's new keeper watches it and starts the next daemon."""
    shim = world.shim()
    fifo = os.path.join(world.folder, 'fifo')
    os.mkfifo(fifo)
    attempt = shim.send(['/bin/sh', '-c', f'echo up; cat {fifo}; exit 2'])
    attempt.started()
    world.keeper.kill()
    world.keeper.wait()
    with open(fifo, 'w') as file:
        file.write('x')
    assert ended_by(attempt.ended()) == 2
    assert ended_by(shim.run(['/bin/true'])[0]) == 0
    shim.close()
    harness.wait_gone(shim.pid)  # idle, and nobody holds the other end of its channel
    attach_keeper(world)
    assert world.attach() == {}
    assert ended_by(world.shim(1).run(['/bin/true'])[0]) == 0
    world.kill_daemon()
    assert list(world.attach()) == [1]


def attach_keeper(world):
    """As a daemon starts a keeper: our socket as 3, the daemon's pidfd as 4."""
    world.socket.close()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pidfd = os.pidfd_open(world.daemon_pid)
    script = 'exec "$@" 3<&$THEIRS 4<&$PIDFD'
    world.keeper = subprocess.Popen(['bash', '-c', script, 'bash', *world.command(), '--attach-daemon'],
                                    pass_fds=[theirs.fileno(), pidfd], stdin=subprocess.DEVNULL, stdout=world.log,
                                    stderr=world.log,
                                    env={**os.environ, 'THEIRS': str(theirs.fileno()), 'PIDFD': str(pidfd)})
    theirs.close()
    os.close(pidfd)
    world.socket = ours
    world.is_attached = True
    ours.settimeout(LIMIT_S)
    assert world.message(wire.HELLO)[0].pid == world.keeper.pid


def test_attached_keeper_is_told_to_stop(world):
    """It cannot see how the daemon exits, so the daemon says what is wanted."""
    world.keeper.kill()
    world.keeper.wait()
    attach_keeper(world)
    world.order(wire.STOP)
    world.link.send(b'0')
    world.socket.close()
    assert world.keeper.wait(LIMIT_S) == 0


def test_attached_keeper_is_told_to_restart(world):
    world.keeper.kill()
    world.keeper.wait()
    attach_keeper(world)
    world.order(wire.RESTART)
    world.end_daemon(0)
    world.accept()


def test_keeper_that_is_replaced(world):
    """A daemon of another protocol: STOP and a closed socket; shims stay with the daemon, the lock is free."""
    shim = world.shim()
    attempt = shim.send(['/bin/sh', '-c', 'echo up; exec sleep 1000'])
    attempt.started()
    world.order(wire.STOP)
    world.socket.close()
    assert world.keeper.wait(LIMIT_S) == 0
    attach_keeper(world)
    shim.signal(signal.SIGTERM)
    assert ended_by(attempt.ended()) == -signal.SIGTERM
    shim.close()
    harness.wait_gone(shim.pid)


# -- the keeper and its daemon -----------------------------------------------------------------------------------------

def test_second_keeper_is_refused(world):
    second = subprocess.run(world.command(), capture_output=True, timeout=LIMIT_S, check=False)
    assert second.returncode == wire.EXIT_LOCKED
    assert str(world.keeper.pid) in second.stderr.decode() and world.state in second.stderr.decode()
    detached = subprocess.run([*world.command(), '--detach'], capture_output=True, timeout=LIMIT_S, check=False)
    assert detached.returncode == wire.EXIT_LOCKED and str(world.keeper.pid) in detached.stderr.decode()


def test_twenty_keepers_at_once(make_world):
    world = make_world()
    world.end_daemon(wire.EXIT_STOP)
    world.keeper.wait(LIMIT_S)
    keepers = [subprocess.Popen(world.command(), stdin=subprocess.DEVNULL, stdout=world.log, stderr=world.log)
               for _ in range(20)]
    world.accept()
    losers = [keeper for keeper in keepers if keeper.pid != world.hello.pid]
    assert len(losers) == 19
    assert {keeper.wait(LIMIT_S) for keeper in losers} == {wire.EXIT_LOCKED}
    world.keeper = next(keeper for keeper in keepers if keeper.pid == world.hello.pid)


@pytest.mark.parametrize('code', [wire.EXIT_STOP, wire.EXIT_USAGE, wire.EXIT_LOCKED])
def test_daemon_that_wants_no_other(world, code):
    shim = world.shim()
    shim.run(['/bin/true'])
    world.end_daemon(code)
    assert world.keeper.wait(LIMIT_S) == code


def test_daemon_asks_for_a_restart(world):
    shim = world.shim()
    world.end_daemon(wire.EXIT_RESTART)
    world.accept()
    assert world.attach()[0].pid == shim.pid


def test_pauses_grow(world):
    began = time.monotonic()
    for _ in range(4):
        world.end_daemon(1)
        world.accept()
    assert time.monotonic() - began > 0.1 + 0.2 + 0.4 + 0.8


def test_terminated_keeper_ends_its_daemon_and_no_task(world):
    shim = world.shim()
    attempt = shim.send(['/bin/sh', '-c', 'echo up; exec sleep 1000'])
    pid = attempt.started().leader_pid
    world.keeper.terminate()
    assert world.keeper.wait(LIMIT_S) == 0
    assert harness.is_running(pid)
    shim.signal(signal.SIGUSR1)
    assert ended_by(attempt.ended()) == -signal.SIGKILL


def test_detached_keeper(make_world):
    """The starter returns when the daemon runs; no terminal, a log of its own."""
    world = make_world()
    world.end_daemon(wire.EXIT_STOP)
    world.keeper.wait(LIMIT_S)
    starter = subprocess.run([*world.command(), '--detach'], stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S,
                             check=False)
    assert (starter.returncode, starter.stdout, starter.stderr) == (0, b'', b'')
    world.accept()
    world.pids.add(world.hello.pid)
    log = os.path.join(world.state, 'daemon.log')
    fields = harness.stat_fields(world.hello.pid)
    assert fields[3] == str(world.hello.pid).encode()  # session
    assert [os.readlink(f'/proc/{world.hello.pid}/fd/{fd}') for fd in range(3)] == ['/dev/null', log, log]
    assert os.readlink(f'/proc/{world.hello.pid}/cwd') == '/'
    assert stat.S_IMODE(os.stat(log).st_mode) == 0o600
    world.end_daemon(wire.EXIT_STOP)
    harness.wait_gone(world.hello.pid)


def test_start_that_cannot_be(world):
    """Said at once, with a sentence; nothing is left."""
    new = [find_keeper(), '--state', world.folder + '/new', '--daemon', '/nowhere/daemon']
    cases = [
        ([find_keeper()], wire.EXIT_USAGE, b'usage'),
        ([find_keeper(), '--state', 'relative'], wire.EXIT_USAGE, b'usage'),
        (new, 1, b'/nowhere/daemon'),
        ([*new, '--detach'], 1, b'/nowhere/daemon'),
        ([find_keeper(), '--state', world.program], 1, world.program.encode()),
        ([find_keeper(), '--state', world.folder + '/open'], 1, b'chmod'),
        ([find_keeper(), '--state', world.folder + '/damaged', '--daemon', '/bin/false'], 1, b'slots'),
    ]
    os.mkdir(world.folder + '/open')
    os.chmod(world.folder + '/open', 0o777)
    os.mkdir(world.folder + '/damaged', 0o700)
    with open(world.folder + '/damaged/slots', 'wb') as file:
        file.write(b'x' * 2000000)
    for command, code, words in cases:
        done = subprocess.run(command, capture_output=True, timeout=LIMIT_S, check=False)
        assert done.returncode == code and words in done.stderr, (command, done)


# -- helpers -----------------------------------------------------------------------------------------------------------

def run_helper(world, argv, token, stdin='/dev/null'):
    """(answer, output)."""
    read, write = os.pipe()
    with open(stdin, 'rb') as file:
        wire.send(world.socket, wire.HELPER_HEAD.pack(wire.RUN_HELPER, len(argv), token) + wire.strings(argv),
                  [file.fileno(), write, write])
    os.close(write)
    answer, _ = world.message(wire.HELPER)
    assert answer.token == token
    with open(read, 'rb') as output:
        assert select.select([output], [], [], LIMIT_S)[0]
        return answer, output.read()


def test_helper(world):
    answer, output = run_helper(world, ['/usr/bin/env'], 41)
    assert answer.error == 0 and answer.pid > 0
    names = {line.split(b'=')[0] for line in output.splitlines()}
    assert b'LANG=C.UTF-8' in output.splitlines() and names <= {b'PATH', b'HOME', b'LANG', b'XDG_CONFIG_HOME'}
    assert run_helper(world, ['/bin/cat'], 42, world.program)[1].startswith(b'#!')
    answer, output = run_helper(world, ['/nowhere/helper'], 43)
    assert answer.error == -errno.ENOENT and output == b''
    harness.wait_until(lambda: harness.children_of(world.keeper.pid) == [world.daemon_pid], LIMIT_S, 'helpers are reaped')


def test_messages_that_are_none(world):
    """Neither an unknown kind nor a broken helper order ends the keeper."""
    wire.send(world.socket, b'x')
    wire.send(world.socket, wire.Keeper(kind=99).pack())
    wire.send(world.socket, wire.HELPER_HEAD.pack(wire.RUN_HELPER, 5, 1) + b'only\0two\0')
    answer, _ = world.message(wire.HELPER)
    assert answer.error == -errno.EINVAL
    world.order(wire.SPAWN_SHIM, slot=1 << 20)
    answer, fds = world.message(wire.SHIM)
    assert answer.error == -errno.EINVAL and not fds
    assert ended_by(world.shim().run(['/bin/true'])[0]) == 0


# -- many --------------------------------------------------------------------------------------------------------------

def count_descriptors(pid):
    return len(os.listdir(f'/proc/{pid}/fd'))


def test_many_starts_over_eight_slots(world):
    """Every end is told once and right, and nothing grows."""
    shims = [world.shim(slot) for slot in range(8)]
    for shim in shims:
        shim.run(['/bin/true'])
    before = [count_descriptors(pid) for pid in [world.keeper.pid, *(shim.pid for shim in shims)]]
    poll = select.poll()
    by_fd, running, seen = {}, {}, []
    for shim in shims:
        poll.register(shim.channel, select.POLLIN)
        by_fd[shim.channel.fileno()] = shim

    def start(shim):
        running[shim] = shim.send(['/bin/sh', '-c', f'echo {world.last_task + 1}; exit {(world.last_task + 1) % 200}'])
    for shim in shims:
        start(shim)
    while running:
        ready = poll.poll(LIMIT_S * 1000)
        assert ready, 'nothing ends any more'
        for fd, _ in ready:
            shim = by_fd[fd]
            kind, record = shim.message()
            if kind == wire.STARTED:
                continue
            attempt = running.pop(shim)
            assert ended_by(record) == attempt.task % 200
            assert attempt.output() == b'%d\n' % attempt.task
            seen.append(attempt.task)
            if len(seen) + len(running) < 800:
                start(shim)
    assert len(seen) == len(set(seen)) == 800
    assert before == [count_descriptors(pid) for pid in [world.keeper.pid, *(shim.pid for shim in shims)]]


def test_more_shims_than_a_socket_holds(world):
    """News that the daemon does not read at once waits with the keeper."""
    world.order(wire.ATTACH)
    assert world.message(wire.ATTACHED)[0].count == 0
    for slot in range(300):
        world.order(wire.SPAWN_SHIM, slot=slot)
    shims = [world.take_shim() for _ in range(300)]
    assert sorted(shim.slot for shim in shims) == list(range(300))
    world.order(wire.ATTACH)
    harness.wait_until(lambda: select.select([world.socket], [], [], 0)[0], LIMIT_S, 'an answer')
    found = 0
    while True:
        data, fds = wire.receive(world.socket)
        message = wire.Keeper(data)
        for fd in fds:
            os.close(fd)
        if message.kind == wire.ATTACHED:
            break
        found += 1
    assert found == message.count == 300


# -- crash points ------------------------------------------------------------------------------------------------------

CALLS = ('poll recvmsg fcntl pread64 openat mkdirat pipe2 sendmsg pwrite64 clone3 read wait4 close splice').split()


def kill_at(pid, call, number):
    """A strace that kills the process before its Nth system call of this name from now; returns when it is attached."""
    tracer = subprocess.Popen(['strace', '-o', '/dev/null', '-e', f'trace={call}', '-e',
                               f'inject={call}:signal=SIGKILL:when={number}', '-p', str(pid)],
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert select.select([tracer.stderr], [], [], LIMIT_S)[0]
    line = tracer.stderr.readline()
    if b'attached' not in line:
        tracer.kill()
        tracer.wait()
        pytest.skip(f'strace cannot attach: {line.decode()}')
    return tracer


def run_and_kill(world, shim, call, number):
    """(was it killed, the last record of the attempt, the attempt, how often it ran)."""
    tracer = kill_at(shim.pid, call, number)
    proof = os.path.join(world.folder, f'ran-{call}-{number}')
    attempt = shim.send(['/bin/sh', '-c', f'echo one >> {proof}; echo output; exit 5'])
    pidfd = [shim.pidfd]
    channel = [shim.channel]
    try:
        while select.select(pidfd + channel, [], [], LIMIT_S)[0]:
            if shim.message()[0] == wire.ENDED:  # idle again, or killed just behind its last word
                select.select(pidfd, [], [], 0.05)
                break
    except (ConnectionResetError, AssertionError):  # it is dying; a START that it did not read resets
        select.select(pidfd, [], [], LIMIT_S)
    is_killed = bool(select.select(pidfd, [], [], 0)[0])
    record = world.record(0)
    if is_killed:
        gone, _ = world.message(wire.SHIM_GONE)
        assert gone.pid == shim.pid
        record = world.record(0)
        if gone.is_taken_over:
            attempt.shim = world.take_shim()
            record = attempt.ended()
            world.message(wire.SHIM_GONE)
    tracer.kill()
    tracer.wait()
    ran = open(proof).read().count('one') if os.path.exists(proof) else 0
    return is_killed, record, attempt, ran


@pytest.mark.skipif(not shutil.which('strace'), reason='needs strace to kill the shim at each system call')
def test_shim_killed_at_each_system_call(either_world):
    """
    Whatever the moment: nothing runs twice, nothing that ran looks as if it had not, no byte of output is lost, and an
    exit status is the right one or none.
    """
    states = []
    for call in CALLS:
        shim = None
        for number in range(1, 30):
            shim = shim or either_world.shim()
            is_killed, record, attempt, ran = run_and_kill(either_world, shim, call, number)
            where = (call, number, record)
            assert record.task == attempt.task, where
            if record.state == wire.ARMED:
                assert ran == 0, where
            else:
                assert record.state == wire.R_ENDED and ran == 1 or record.state == wire.R_UNKNOWN and ran <= 1, where
                assert attempt.output() == b'output\n' * ran, where
            if record.state == wire.R_ENDED:
                assert os.waitstatus_to_exitcode(record.wait_status) == 5, where
            states.append((call, number, record.state, is_killed))
            if not is_killed:
                break
            shim = None
        if not shim:
            continue
        shim.kill()
        either_world.message(wire.SHIM_GONE)
    assert {wire.ARMED, wire.R_ENDED, wire.R_UNKNOWN} <= {state for _, _, state, is_killed in states if is_killed}
    assert len(states) > 30
