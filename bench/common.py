"""What the benchmarks share: a drover of their own, peers, rounds in turn, what processes cost, and where results go.

A benchmark is a program of its own (bench/p1 …): it measures, fills a Result and hands it to finish(), which writes
bench/results/ID.json and the section of bench/RESULTS.md. `bench/run` runs them all.
"""
import argparse
import atexit
import contextlib
import datetime
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RESULTS = os.path.join(ROOT, 'bench', 'results')
LIMIT_S = 600
MIB = 1 << 20
TICKS = os.sysconf('SC_CLK_TCK')
SYSTEM_PATH = '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/usr/games'


# -- running things ----------------------------------------------------------------------------------------------------

def output_of(*command, **more):
    """What a command prints, both streams; '' when it cannot be run."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False, timeout=20, **more)
    except (OSError, subprocess.TimeoutExpired):
        return ''
    return done.stdout.strip()


def first_version(text):
    match = re.search(r'\d+(\.\d+)*[\w.+~-]*', text)
    return match.group(0) if match else '?'


def package_version(name):
    return first_version(output_of('dpkg-query', '-W', '-f', '${Version}', name))


def find_program(name):
    """Path of a peer: in PATH, or where cargo installs. None when it is not there."""
    return shutil.which(name) or shutil.which(name, path=os.path.expanduser('~/.cargo/bin'))


def pause(seconds):
    """Lets a measuring window pass; nothing is waited for by it."""
    threading.Event().wait(seconds)


def wait_until(condition, what, limit_s=60, step_s=0.002):
    """Waits until condition() is true and returns what it returned; the step grows, so waiting costs little."""
    deadline = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise RuntimeError(f'not within {limit_s} s: {what}')
        pause(step_s)
        step_s = min(0.05, step_s * 1.2)


# -- processes ---------------------------------------------------------------------------------------------------------

def read_file(path):
    try:
        with open(path, 'rb') as file:
            return file.read().decode(errors='replace')
    except OSError:
        return ''


def stat_fields(pid):
    """Fields of /proc/PID/stat from the state on; None when there is no such process."""
    text = read_file(f'/proc/{pid}/stat')
    return text[text.rindex(')') + 2:].split() if ')' in text else None


def name_of(pid):
    return read_file(f'/proc/{pid}/comm').strip()


def parent_of(pid):
    fields = stat_fields(pid)
    return int(fields[1]) if fields else 0


def children_of(pid):
    return sorted(int(name) for name in os.listdir('/proc') if name.isdigit() and parent_of(name) == pid)


def is_running(pid):
    fields = stat_fields(pid)
    return fields is not None and fields[0] not in 'ZX'


def signal_process(pid, number):
    """By pidfd, so that nobody else's process can be meant."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def cpu_seconds(pid):
    """CPU time of a process and all its threads that live, to the nanosecond where the kernel tells it; 0 when gone."""
    total = 0
    try:
        for thread in os.listdir(f'/proc/{pid}/task'):
            total += int(read_file(f'/proc/{pid}/task/{thread}/schedstat').split()[0])
        return total / 1e9
    except (OSError, IndexError):
        fields = stat_fields(pid)
        return (int(fields[11]) + int(fields[12])) / TICKS if fields else 0.0


def children_cpu_seconds(pid):
    """CPU time of children that it waited for, and of those that they waited for."""
    fields = stat_fields(pid)
    return (int(fields[13]) + int(fields[14])) / TICKS if fields else 0.0


def pss_bytes(pid):
    """Proportional set size: its own pages and its share of shared ones."""
    match = re.search(r'(?m)^Pss:\s+(\d+) kB', read_file(f'/proc/{pid}/smaps_rollup'))
    return int(match.group(1)) * 1024 if match else 0


# -- drover ------------------------------------------------------------------------------------------------------------

class Drover:
    """One drover with a state directory, home and configuration of its own."""

    def __init__(self, bench, name, config='', programs=None):
        self.bench = bench
        self.programs = programs or bench.programs
        self.client = os.path.join(bench.programs, 'drover')
        self.folder = bench.new_folder(name)
        self.state = os.path.join(self.folder, 'state')
        for part in ('state', 'runtime', 'home/.config/drover', 'work'):
            os.makedirs(os.path.join(self.folder, part), mode=0o700)
        self.work = os.path.join(self.folder, 'work')
        self.environment = {
            'PATH': SYSTEM_PATH, 'HOME': os.path.join(self.folder, 'home'), 'LC_ALL': 'C.UTF-8',
            'XDG_RUNTIME_DIR': os.path.join(self.folder, 'runtime'), 'DROVER_STATE_DIR': self.state,
            'DROVER_LIBEXEC_DIR': self.programs,
        }
        if config:
            with open(os.path.join(self.folder, 'home', '.config', 'drover', 'config.yaml'), 'w', encoding='utf-8') as file:
                file.write(config)
        self.keeper = 0
        atexit.register(self.stop)

    def start(self):
        self.call('daemon', 'start')
        self.keeper = parent_of(self.daemon_pid())
        return self

    def command(self, *arguments):
        return [self.client, *map(str, arguments)]

    def call(self, *arguments, **more):
        """Runs the client to its end; its output."""
        done = subprocess.run(self.command(*arguments), env=self.environment, cwd=self.work, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT_S, check=False, **more)
        if done.returncode != 0:
            raise RuntimeError(f'drover {" ".join(map(str, arguments))[:100]}: status {done.returncode}: '
                               f'{done.stderr.decode(errors="replace")[-600:]}')
        return done.stdout.decode()

    def popen(self, *arguments, **more):
        return subprocess.Popen(self.command(*arguments), env=self.environment, cwd=self.work, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)

    def json(self, *arguments):
        return json.loads(self.call(*arguments, '--json'))

    def states(self):
        return self.json('status')['states']

    def daemon_pid(self):
        return self.json('daemon', 'status')['pid']

    def shims(self):
        return [pid for pid in children_of(self.keeper) if name_of(pid) == 'drover-shim']

    def stop(self, stops_tasks=True):
        """Ends the tasks, the daemon and its keeper; those by force that would not."""
        if not self.keeper:
            return
        keeper, self.keeper = self.keeper, 0
        command = self.command('daemon', 'stop', *['--stop-tasks'] * stops_tasks)
        subprocess.run(command, env=self.environment, check=False, cwd=self.work, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
        with contextlib.suppress(RuntimeError):
            wait_until(lambda: not is_running(keeper), 'the keeper has ended', 20)
        for pid in [keeper, *children_of(keeper)] if is_running(keeper) else []:
            signal_process(pid, signal.SIGKILL)


class Connection:
    """Speaks docs/protocol.md; times what it does not decode."""

    def __init__(self, drover):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(LIMIT_S)
        match = re.search(r'(?m)^socket (.*)$', read_file(os.path.join(drover.state, 'daemon.lock')))
        if not match:
            raise OSError('no daemon has said where it listens')
        folder = os.open(os.path.dirname(match.group(1)), os.O_PATH | os.O_DIRECTORY)
        try:
            self.socket.connect(f'/proc/self/fd/{folder}/{os.path.basename(match.group(1))}')  # a path of any length
        finally:
            os.close(folder)
        self.number = 0
        self.call('hello', {'protocol': 1, 'client': 'bench'})

    def ask(self, method, params=None):
        """Sends a request; the bytes of its answer."""
        self.number += 1
        request = {'jsonrpc': '2.0', 'id': self.number, 'method': method, 'params': params or {}}
        self.socket.sendall(json.dumps(request).encode() + b'\n')
        parts = []
        while not parts or not parts[-1].endswith(b'\n'):
            parts.append(self.socket.recv(1 << 20))
            if not parts[-1]:
                raise OSError(f'no answer to {method}')
        return b''.join(parts)

    def call(self, method, params=None):
        answer = json.loads(self.ask(method, params))
        if 'error' in answer:
            raise RuntimeError(f'{method}: {answer["error"]}')
        return answer['result']

    def close(self):
        self.socket.close()


def config_of_slots(slots):
    return f'maxParallel: {slots}\nlimits:\n  hardMaxConcurrent: {slots}\n'


class Pueue:
    """pueue's daemon with a home of its own. It comes from its registry: cargo install --locked pueue."""
    name = 'pueue'

    def __init__(self, bench, slots):
        self.client, self.program = find_program('pueue'), find_program('pueued')
        self.path = self.client and self.program
        self.pid = 0
        if not self.path:
            return
        self.folder = bench.new_folder('pueue')
        self.slots = slots
        self.environment = {'PATH': SYSTEM_PATH, 'HOME': self.folder, 'XDG_RUNTIME_DIR': self.folder, 'LC_ALL': 'C.UTF-8'}
        atexit.register(self.stop)

    def version(self):
        return first_version(output_of(self.client, '--version'))

    def call(self, *arguments):
        return subprocess.run([self.client, *map(str, arguments)], env=self.environment, cwd=self.folder, check=True,
                              timeout=LIMIT_S, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL).stdout

    def start(self):
        process = subprocess.Popen([self.program], env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.process, self.pid = process, process.pid
        wait_until(lambda: output_of(self.client, 'status', env=self.environment).startswith('Group'), 'pueued answers')
        self.call('parallel', self.slots)
        return self

    def tasks(self):
        return json.loads(self.call('status', '--json'))['tasks'].values()

    def results(self):
        """How the finished ones ended: 'Success', 'Killed', or {'Failed': code}."""
        return [task['status']['Done']['result'] for task in self.tasks() if 'Done' in task['status']]

    def stop(self):
        if not self.pid:
            return
        self.pid = 0
        with contextlib.suppress(subprocess.SubprocessError):
            self.call('kill', '--all')
        with contextlib.suppress(subprocess.SubprocessError):
            self.call('shutdown')
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class TaskSpooler:
    """task-spooler with a socket of its own."""
    name = 'task-spooler'

    def __init__(self, bench, slots):
        path = find_program('tsp') or find_program('ts')
        self.path = path if path and 'Task Spooler' in output_of(path, '-V') else None
        self.slots = slots
        self.folder = bench.new_folder('tsp') if self.path else None
        self.environment = {'PATH': SYSTEM_PATH, 'HOME': self.folder, 'TMPDIR': self.folder, 'LC_ALL': 'C.UTF-8',
                            'TS_SOCKET': f'{self.folder}/socket', 'TS_MAXFINISHED': '1000000'}

    def version(self):
        return package_version('task-spooler')

    def call(self, *arguments):
        return subprocess.run([self.path, *map(str, arguments)], env=self.environment, cwd=self.folder, check=True,
                              timeout=LIMIT_S, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL).stdout.decode()

    def start(self):
        self.call('-S', self.slots)
        return self

    def stop(self):
        """Its server does not end what runs: those are told first."""
        if self.path:
            for line in self.call().splitlines():
                if ' running ' in line:
                    subprocess.run([self.path, '-k', line.split()[0]], env=self.environment, check=False)
            self.call('-K')


# -- the frame of a benchmark ------------------------------------------------------------------------------------------

class Bench:
    """Command line, folder and machine of one benchmark."""

    def __init__(self, identity, title, **defaults):
        """`defaults` are numbers that the command line may change: name=(normal, quick)."""
        self.identity, self.title = identity, title
        parser = argparse.ArgumentParser(description=f'{identity}: {title}.')
        parser.add_argument('--build', default=os.path.join(ROOT, 'build', 'bench'), help='build directory')
        parser.add_argument('--quick', action='store_true', help='small sizes; the results go to build/bench-quick/')
        parser.add_argument('--scratch', help='folder to work in, kept; default: one of its own below build/, removed')
        for name, (normal, _) in defaults.items():
            parser.add_argument(f'--{name}', type=type(normal), help=f'default {normal}')
        options = parser.parse_args()
        for name, pair in defaults.items():
            given = getattr(options, name)
            setattr(self, name, given if given is not None else pair[options.quick])
        self.is_quick = options.quick
        self.build = os.path.abspath(options.build)
        self.programs = os.path.join(self.build, 'src')
        self.folder = options.scratch or make_scratch(identity.lower())
        if not options.scratch:
            atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        if not os.access(os.path.join(self.programs, 'drover'), os.X_OK):
            sys.exit(f'{identity}: there is no drover in {self.programs}: run make bench, or name a build with --build')
        self.started_at = datetime.datetime.now(datetime.timezone.utc)
        self.begin = time.monotonic()

    def new_folder(self, name):
        """A new one each time: nothing is deleted before measuring, since ext4 creates slowly just after that."""
        return tempfile.mkdtemp(prefix=f'{self.identity.lower()}-{name}-', dir=self.folder)

    def result(self):
        return Result(self)

    def say(self, text):
        print(f'{self.identity}: {text}', flush=True)

    def tool(self, name):
        """A program of bench/ itself."""
        return os.path.join(self.build, 'bench', name)


def make_scratch(name):
    """
    A folder on the file system of the source tree: a real disk and no tmpfs. ext4 is told to spread what is made in it over
    the disk, as it does with home directories: where files were deleted in the last minutes, without a journal, it creates
    new ones up to ten times more slowly, and one contender would pay for what another or somebody else has deleted.
    """
    os.makedirs(os.path.join(ROOT, 'build'), exist_ok=True)
    folder = tempfile.mkdtemp(prefix=f'bench-{name}-', dir=os.path.join(ROOT, 'build'))
    output_of('chattr', '+T', folder)
    return folder


def in_turn(rounds, contenders, measure, say=None):
    """A B A B: measure(contender) in each round; {contender: [what it returned]}."""
    values = {contender: [] for contender in contenders}
    for number in range(rounds):
        for contender in contenders:
            value = measure(contender)
            values[contender].append(value)
            if say:
                say(f'round {number + 1}: {contender}: {value:,.4g}' if isinstance(value, (int, float)) else
                    f'round {number + 1}: {contender}: {value}')
    return values


def median(values):
    return statistics.median(values)


def ratio(ours, theirs):
    """Median of what the rounds say, each for itself: what else the machine did meanwhile is much the same within one."""
    return statistics.median(our / their for our, their in zip(ours, theirs))


def spread(values, form='{:,.0f}'):
    return f'{form.format(min(values))} to {form.format(max(values))}'


def machine(folder):
    memory = int(re.search(r'MemTotal:\s+(\d+)', read_file('/proc/meminfo')).group(1)) / (1 << 20)
    model = re.search(r'model name\s*:\s*(.*)', read_file('/proc/cpuinfo'))
    file_system = output_of('findmnt', '-n', '-o', 'FSTYPE', '-T', folder) or '?'
    return f'{os.cpu_count()} cores{" of " + model.group(1).strip() if model else ""}, {memory:.0f} GiB, ' \
           f'Linux {first_version(platform.release().split("-")[0])}, {file_system}'


class Result:
    """What a benchmark found. `targets` are judged, `tables` and `text` are for reading."""

    def __init__(self, bench):
        self.bench = bench
        self.targets, self.tables, self.text, self.missing, self.plots = [], [], [], [], []
        self.values = {}

    def target(self, what, value, form, bound, is_met, peers=''):
        """One row of the table of targets; `value` is a number, `form` how it is written: '{:.2f} s'."""
        self.targets.append({'what': what, 'value': value, 'text': form.format(value), 'target': bound, 'met': bool(is_met),
                             'peers': peers})

    def table(self, columns, rows, title=''):
        self.tables.append({'title': title, 'columns': columns, 'rows': [[str(cell) for cell in row] for row in rows]})

    def peers(self, peers):
        """Those that are not there are named."""
        for peer in peers:
            if not peer.path and peer.name not in self.missing:
                self.missing.append(peer.name)
        return [peer for peer in peers if peer.path]

    def plot(self, name, svg):
        self.plots.append((name, svg))

    def finish(self):
        """Writes the JSON, the plots and the section of RESULTS.md; prints the targets."""
        import report
        bench = self.bench
        folder = os.path.join(ROOT, 'build', 'bench-quick') if bench.is_quick else RESULTS
        os.makedirs(folder, exist_ok=True)
        load = os.getloadavg()[0]
        data = {
            'id': bench.identity, 'title': bench.title, 'date': f'{bench.started_at:%Y-%m-%d}',
            'machine': machine(bench.folder), 'seconds': round(time.monotonic() - bench.begin),
            'load': round(load, 1), 'quick': bench.is_quick, 'version': drover_version(bench),
            'targets': self.targets, 'tables': self.tables, 'text': self.text, 'missing': self.missing,
            'plots': [name for name, _ in self.plots], 'values': self.values,
        }
        with open(os.path.join(folder, f'{bench.identity.lower()}.json'), 'w', encoding='utf-8') as file:
            json.dump(data, file, indent=1, ensure_ascii=False)
            file.write('\n')
        for name, svg in self.plots:
            with open(os.path.join(folder, name), 'w', encoding='utf-8') as file:
                file.write(svg)
        path = os.path.join(folder, 'RESULTS.md') if bench.is_quick else os.path.join(ROOT, 'bench', 'RESULTS.md')
        report.write(folder, path)
        for row in self.targets:
            bench.say(f'{row["what"]}: {row["text"]} (target {row["target"]}): {"met" if row["met"] else "MISSED"}')
        for name in self.missing:
            bench.say(f'{name} is not installed, so not measured')
        bench.say(f'{data["seconds"]} s, written to {os.path.relpath(path, ROOT)}')


def drover_version(bench):
    """Its number and commit; the results themselves do not count as changes."""
    commit = output_of('git', '-C', ROOT, 'describe', '--always')
    is_changed = output_of('git', '-C', ROOT, 'status', '--porcelain', '--', 'src', 'meson.build') != ''
    number = first_version(output_of(os.path.join(bench.programs, 'drover'), 'version'))
    return f'{number} ({commit}{", changed" if is_changed else ""})'
