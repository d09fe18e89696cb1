"""harness: one drover of its own for each test: state directory, home, environment, and the certainty that nothing is left.

A test gets a Drover by the fixture `drover` (conftest.py). It runs commands with a time limit, waits for conditions with
deadlines, and at its end stops the daemon and looks for processes and sanitizer reports that were left behind.
"""
import contextlib
import ctypes
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COMMAND_LIMIT_S = 60
FINAL_STATES = {'succeeded', 'failed', 'cancelled', 'timed_out', 'lost', 'skipped'}


class Timeout(AssertionError):
    pass


def wait_until(condition, limit_s=20, what=None):
    """Waits until condition() is true and returns what it returned; fails with `what` after limit_s."""
    deadline = time.monotonic() + limit_s
    pause = 0.005
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Timeout(f'not within {limit_s} s: {what or condition.__name__}')
        time.sleep(pause)
        pause = min(0.1, pause * 1.5)


def find_build():
    build = os.environ.get('DROVER_BUILD') or os.path.join(ROOT, 'build', 'check')
    return os.path.abspath(build)


def find_plain_build():
    """A build without sanitizers (their allocator cannot be replaced, and they need memory of their own), or None."""
    for build in (find_build(), *(os.path.join(ROOT, 'build', name) for name in ('clang', 'release'))):
        daemon = os.path.join(build, 'src', 'drover-daemon')
        if os.path.exists(daemon) and b'libasan' not in subprocess.run(['ldd', daemon], stdout=subprocess.PIPE,
                                                                       check=True).stdout:
            return build
    return None


def read_proc(pid, name):
    try:
        with open(f'/proc/{pid}/{name}', 'rb') as file:
            return file.read()
    except OSError:
        return b''


def stat_fields(pid):
    """Fields of /proc/PID/stat from the state on, or None."""
    text = read_proc(pid, 'stat')
    return text[text.rindex(b')') + 2:].split() if b')' in text else None


def is_running(pid):
    """True while the process is there and is no zombie."""
    fields = stat_fields(pid)
    return fields is not None and fields[0] not in (b'Z', b'X')


def group_is_running(number):
    """Whether a process of the group lives; a zombie that nobody took yet does not."""
    for name in os.listdir('/proc'):
        fields = stat_fields(int(name)) if name.isdigit() else None
        if fields and int(fields[2]) == number and fields[0] not in (b'Z', b'X'):
            return True
    return False


def parent_of(pid):
    fields = stat_fields(pid)
    return int(fields[1]) if fields else 0


def children_of(pid):
    found = []
    for name in os.listdir('/proc'):
        if name.isdigit() and parent_of(int(name)) == pid:
            found.append(int(name))
    return found


def signal_process(pid, number):
    """Signals through a pidfd, so that nobody else's process can be meant."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def wait_gone(pid, limit_s=20):
    wait_until(lambda: not is_running(pid), limit_s, f'process {pid} is gone')


class Drover:
    """One drover: a state directory and all that belongs to it."""

    def __init__(self, folder, environment=None):
        sanitizer = f'log_path={folder}/sanitizer/report:exitcode=99'
        self.folder = folder
        self.state = os.path.join(folder, 'state')
        self.work = os.path.join(folder, 'work')
        self.build = find_build()
        self.programs = os.path.join(self.build, 'src')
        self.client = os.path.join(self.programs, 'drover')
        for name in ('state', 'work', 'home', 'runtime', 'tmp', 'sanitizer'):
            os.makedirs(os.path.join(folder, name), mode=0o700, exist_ok=True)
        self.environment = {
            'PATH': '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin',
            'HOME': os.path.join(folder, 'home'),
            'XDG_RUNTIME_DIR': os.path.join(folder, 'runtime'),
            'TMPDIR': os.path.join(folder, 'tmp'),
            'LC_ALL': 'C.UTF-8',
            'DROVER_STATE_DIR': self.state,
            'DROVER_LIBEXEC_DIR': self.programs,
            'ASAN_OPTIONS': sanitizer + ':detect_leaks=1',
            'UBSAN_OPTIONS': sanitizer + ':print_stacktrace=1:halt_on_error=1',
        }
        self.environment.update(environment or {})
        self.before = []   # what goes in front of each command: nsenter …
        self.gates = []
        self.started = []  # Popen objects that the test did not wait for

    def use_build(self, build):
        self.build, self.programs = build, os.path.join(build, 'src')
        self.client = os.path.join(self.programs, 'drover')
        self.environment['DROVER_LIBEXEC_DIR'] = self.programs

    # -- commands ------------------------------------------------------------------------------------------------------

    def popen(self, *arguments, env=None, cwd=None, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
              stderr=subprocess.PIPE, before=(), **more):
        """Starts the client and returns at once; `before` goes in front of it (unshare …)."""
        environment = dict(self.environment, **{k: v for k, v in (env or {}).items() if v is not None})
        for name in [k for k, v in (env or {}).items() if v is None]:
            environment.pop(name, None)
        command = [*self.before, *before, self.client, *map(str, arguments)]
        process = subprocess.Popen(command, env=environment, cwd=cwd or self.work, stdin=stdin, stdout=stdout, stderr=stderr,
                                   **more)
        self.started.append(process)
        return process

    def run(self, *arguments, limit_s=COMMAND_LIMIT_S, input=None, text=True, **more):
        """Runs the client to its end: a CompletedProcess with text (or bytes) in stdout and stderr."""
        if input is not None:
            more['stdin'] = subprocess.PIPE
            input = input.encode() if isinstance(input, str) else input
        process = self.popen(*arguments, **more)
        try:
            out, err = process.communicate(input, timeout=limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise Timeout(f'drover {" ".join(map(str, arguments))} did not end in {limit_s} s; it said: '
                          f'{(out or b"")[-2000:]!r} {(err or b"")[-2000:]!r}; daemon log: {self.daemon_log()[-2000:]}')
        finally:
            if process.returncode is not None:
                self.started.remove(process)
        out, err = out or b'', err or b''
        if text:
            out, err = out.decode(errors='replace'), err.decode(errors='replace')
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def run_on_terminal(self, *arguments, limit_s=COMMAND_LIMIT_S, terminal='xterm'):
        """Runs the client with a terminal for its input and output; all the bytes that the terminal got."""
        ours, theirs = pty.openpty()
        process = self.popen(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, env={'TERM': terminal},
                             start_new_session=True)
        os.close(theirs)
        seen = b''
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 0.1)[0]:
                continue
            try:
                data = os.read(ours, 65536)
            except OSError:  # EIO: nobody has the terminal open any more
                break
            seen += data
        os.close(ours)
        process.wait(timeout=10)
        return seen

    def good(self, *arguments, **more):
        """run() that must end with status 0; returns its standard output."""
        done = self.run(*arguments, **more)
        assert done.returncode == 0, f'drover {" ".join(map(str, arguments))}: status {done.returncode}: ' \
                                     f'{done.stdout[-1500:]} {done.stderr[-1500:]}'
        return done.stdout

    def json(self, *arguments, **more):
        return json.loads(self.good(*arguments, '--json', **more))

    def bad(self, status, *arguments, says=(), **more):
        """run() that must end with this status and one error that says all of `says`; returns its standard error."""
        done = self.run(*arguments, **more)
        assert done.returncode == status, f'status {done.returncode}, not {status}: {done.stdout[-800:]} {done.stderr}'
        for word in [says] if isinstance(says, str) else says:
            assert word in done.stderr, f'{word!r} is not in: {done.stderr}'
        assert done.stderr.strip(), 'an error without a sentence'
        return done.stderr

    def add(self, *arguments, **more):
        """drover add: the ids it printed."""
        return [int(number) for number in re.findall(r'\d+', self.good('add', *arguments, **more))]

    def shell(self, script, *options, **more):
        """drover add of one shell text; its id."""
        return self.add(*options, '--', 'sh', '-c', script, **more)[0]

    def gate(self, name='gate'):
        self.gates.append(Gate(self.folder, name))
        return self.gates[-1]

    # -- looking -------------------------------------------------------------------------------------------------------

    def task(self, reference):
        """Everything about a task: the task's own fields and those of `show` beside them."""
        shown = self.json('show', reference)
        return dict(shown, **shown['task']) if 'task' in shown else shown

    def tasks(self, *options):
        return self.json('ls', '--all', *options)['tasks']

    def state_of(self, reference):
        return self.task(reference)['state']

    def wait_state(self, reference, *states, limit_s=30):
        """Waits until the task is in one of the states; returns it."""
        seen = 'not there'

        def look():
            nonlocal seen
            if self.run('show', reference).returncode == 2:
                return None  # not submitted yet
            task = self.task(reference)
            seen = task['state']
            return task if seen in states else None
        try:
            return wait_until(look, limit_s)
        except Timeout:
            raise Timeout(f'task {reference} is {seen}, not {states}, after {limit_s} s') from None

    def wait_final(self, reference, limit_s=30):
        return self.wait_state(reference, *FINAL_STATES, limit_s=limit_s)

    def log(self, reference):
        """The bytes of a task's log file."""
        with open(self.task(reference)['log_path'], 'rb') as file:
            return file.read()

    def daemon_log(self):
        try:
            with open(os.path.join(self.state, 'daemon.log'), encoding='utf-8', errors='replace') as file:
                return file.read()
        except OSError:
            return ''

    def daemon_status(self):
        """daemon status --json, or None where none runs."""
        done = self.run('daemon', 'status', '--json')
        if done.returncode != 0:
            return None
        status = json.loads(done.stdout)
        return status if status.get('running') else None

    def daemon_pid(self):
        status = self.daemon_status()
        return status['pid'] if status else None

    def keeper_pid(self):
        return self.daemon_status()['keeper_pid']

    def start(self):
        self.good('daemon', 'start')
        return self.daemon_pid()

    def kill_daemon(self, number=signal.SIGKILL):
        """Ends the daemon by a signal; returns its pid after it is gone."""
        pid = self.daemon_pid()
        signal_process(pid, number)
        wait_gone(pid)
        return pid

    def wait_daemon(self, other_than=None, limit_s=30):
        """Waits until a daemon (another one) serves; returns its pid. Asks only; the keeper starts it."""
        def look():
            pid = self.daemon_pid()
            return pid if pid and pid != other_than else None
        return wait_until(look, limit_s, 'a daemon serves')

    def shim_of(self, reference):
        """The shim of a running task: the parent of its leading process."""
        pid = wait_until(lambda: self.task(reference).get('pid'), 20, 'the task has a pid')
        return parent_of(pid)

    # -- the raw socket ------------------------------------------------------------------------------------------------

    def connect(self, hello=True):
        return Raw(self.daemon_status()['socket'], hello)

    # -- the end -------------------------------------------------------------------------------------------------------

    def processes(self):
        """Processes that carry this state directory in their environment, or run our programs' files with it as argument."""
        mark = b'DROVER_STATE_DIR=' + self.state.encode()
        found = []
        for name in os.listdir('/proc'):
            if not name.isdigit() or int(name) == os.getpid():
                continue
            if mark in read_proc(name, 'environ').split(b'\0') and is_running(int(name)):
                found.append((int(name), read_proc(name, 'cmdline').replace(b'\0', b' ').decode(errors='replace')[:300]))
        return found

    def count_running(self, program):
        """Processes of this drover that run a program of ours."""
        count = 0
        for pid, _ in self.processes():
            with contextlib.suppress(OSError):
                count += os.path.basename(os.readlink(f'/proc/{pid}/exe')) == program
        return count

    def stop(self):
        """Ends everything. Returns what had to be ended by force, which is a fault of drover or of the test."""
        for gate in self.gates:
            gate.open()
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        self.started.clear()
        with contextlib.suppress(Timeout, OSError):
            self.run('daemon', 'stop', '--stop-tasks', limit_s=30)
        left = []
        try:
            wait_until(lambda: not self.processes(), 15, 'all processes are gone')
        except Timeout:
            left = self.processes()
            for pid, _ in left:
                signal_process(pid, signal.SIGKILL)
            wait_until(lambda: not self.processes(), 15, 'killed processes are gone')
        return left

    def sanitizer_reports(self):
        texts = []
        folder = os.path.join(self.folder, 'sanitizer')
        for name in sorted(os.listdir(folder)):
            with open(os.path.join(folder, name), encoding='utf-8', errors='replace') as file:
                texts.append(file.read())
        return texts


class Raw:
    """A connection that says what it likes. Messages are one JSON object a line."""

    def __init__(self, path, hello=True):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(20)
        folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
        try:
            self.socket.connect(f'/proc/self/fd/{folder}/{os.path.basename(path)}')  # any length of path
        finally:
            os.close(folder)
        self.pending = b''
        self.number = 0
        if hello:
            self.hello = self.call('hello', {'protocol': 1, 'client': 'harness'})

    def send(self, data):
        self.socket.sendall(data)

    def line(self):
        """The next line, or None at the end of the connection."""
        while b'\n' not in self.pending:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.pending += data
        line, self.pending = self.pending.split(b'\n', 1)
        return line

    def answer(self):
        line = self.line()
        return None if line is None else json.loads(line)

    def ask(self, method, params=None):
        """Sends a request and returns the whole answer to it; notifications in between are left out."""
        self.number += 1
        request = {'jsonrpc': '2.0', 'id': self.number, 'method': method, 'params': params or {}}
        self.send(json.dumps(request).encode() + b'\n')
        while True:
            answer = self.answer()
            assert answer is not None, f'the connection ended without an answer to {method}'
            if answer.get('id') == self.number:
                return answer

    def call(self, method, params=None):
        answer = self.ask(method, params)
        assert 'error' not in answer, f'{method}: {answer["error"]}'
        return answer['result']

    def is_ended(self, limit_s=10):
        """True when the other side closes within the limit."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if select.select([self.socket], [], [], 0.1)[0]:
                try:
                    if not self.socket.recv(65536):
                        return True
                except ConnectionResetError:
                    return True
        return False

    def close(self):
        self.socket.close()


def git(*arguments, cwd, **more):
    """git in surroundings of its own; its output without the last newline."""
    environment = {'PATH': os.environ.get('PATH', '/usr/bin:/bin'), 'HOME': cwd, 'GIT_CONFIG_NOSYSTEM': '1',
                   'LC_ALL': 'C.UTF-8', 'GIT_AUTHOR_NAME': 'T', 'GIT_AUTHOR_EMAIL': 't@example.org',
                   'GIT_COMMITTER_NAME': 'T', 'GIT_COMMITTER_EMAIL': 't@example.org'}
    done = subprocess.run(['git', *arguments], cwd=cwd, env=dict(environment, **more), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=COMMAND_LIMIT_S, text=True, check=False)
    assert done.returncode == 0, f'git {" ".join(arguments)}: {done.stderr}'
    return done.stdout.rstrip('\n')


def make_repository(folder, files=None):
    """A repository with one commit on main."""
    os.makedirs(folder, exist_ok=True)
    git('init', '-q', '-b', 'main', cwd=folder)
    for name, text in (files or {'README': 'hello\n', 'src/a.c': 'int a;\n'}).items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)
    git('add', '-A', cwd=folder)
    git('commit', '-q', '-m', 'first', cwd=folder)
    return folder


def write(path, text, mode=0o644):
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text)
    os.chmod(path, mode)
    return path


def read(path):
    with open(path, encoding='utf-8', errors='replace') as file:
        return file.read()


def can_mount():
    """True where a private mount namespace with a tmpfs in it can be made."""
    done = subprocess.run(['unshare', '-m', '--propagation', 'private', 'sh', '-c', 'mount -t tmpfs -o size=64k x /mnt'],
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def become_subreaper():
    """Orphans of a test become children of pytest, so that none of them escapes to process 1 unseen."""
    ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def reap_orphans():
    """Takes the status of ended children between tests, when no Popen object waits for any."""
    for pid in children_of(os.getpid()):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


class Gate:
    """Something that tasks wait at until the test opens it: they run `gate.wait`, a shell command without sleeping."""

    def __init__(self, folder, name='gate'):
        self.path = os.path.join(folder, name)
        os.mkfifo(self.path)
        self.writer = os.open(self.path, os.O_RDWR)
        self.wait = f"{{ read _ < '{self.path}' || :; }}"

    def open(self):
        """Lets all through, those that come later too."""
        if self.writer < 0:
            return
        plain = self.path + '.open'
        write(plain, '')
        os.rename(plain, self.path)
        os.close(self.writer)
        self.writer = -1


def make_folder():
    return tempfile.mkdtemp(prefix='drover-e2e-')


def remove_folder(folder):
    shutil.rmtree(folder, ignore_errors=True)
