"""Output: what a task may do with it, and how much is kept."""
import os
import signal
import sys
import time

import pytest

import harness

MIB = 1 << 20


def test_writes_through_dev_stderr(drover):
    """A plain file as standard error would be cut by this."""
    done = drover.run('run', '--', 'sh', '-c', 'echo one; echo two > /dev/stderr; echo three > /dev/stdout; echo four')
    assert (done.returncode, done.stdout) == (0, 'one\ntwo\nthree\nfour\n')


def test_a_reader_that_leaves_is_told_that_the_task_goes_on(drover):
    """As `drover run yes | head -1`: the client ends as cat would, and says so of what does not end with it."""
    client = drover.popen('run', 'yes')
    assert client.stdout.readline() == b'y\n'
    client.stdout.close()
    said = client.stderr.read().decode()
    assert client.wait(20) == -signal.SIGPIPE
    drover.started.remove(client)
    assert said == "drover: #1 goes on; 'drover cancel 1' ends it\n"
    assert drover.state_of(1) == 'running'
    drover.good('cancel', 1)


def allocated(path):
    return os.stat(path).st_blocks * 512


@pytest.mark.limit(180)
def test_two_gigabytes_of_output(drover):
    begin = time.monotonic()
    task = drover.add('--', 'head', '-c', '2G', '/dev/zero')[0]
    done = drover.wait_final(task, limit_s=120)
    assert done['state'] == 'succeeded'
    assert time.monotonic() - begin < 120
    assert done['output_bytes'] == 2048 * MIB
    assert done['output_bytes'] - done['output_dropped_bytes'] >= 17 * MIB
    assert allocated(done['log_path']) <= 20 * MIB
    said = drover.run('logs', task, text=False, limit_s=60).stdout
    assert 17 * MIB <= len(said) <= 20 * MIB
    assert str(done['output_dropped_bytes']).encode() in said.replace(b'\0', b'')


@pytest.mark.limit(120)
def test_head_and_tail_are_kept_exactly(drover):
    task = drover.shell('echo first line; head -c 40000000 /dev/zero; echo; echo last line')
    done = drover.wait_final(task, limit_s=60)
    said = drover.run('logs', task, text=False).stdout
    assert said.startswith(b'first line\n') and said.endswith(b'\nlast line\n')
    assert done['output_bytes'] == 11 + 40000000 + 1 + 10
    assert allocated(done['log_path']) <= 20 * MIB


def test_a_line_without_end_is_streamed(drover):
    done = drover.run('run', '--', 'sh', '-c', "head -c 3000000 /dev/zero | tr '\\0' x", text=False)
    assert (done.returncode, len(done.stdout)) == (0, 3000000)


def test_one_byte_writes(drover):
    task = drover.add('--', 'dd', 'if=/dev/zero', 'bs=1', 'count=20000', 'status=none')[0]
    assert drover.wait_final(task)['output_bytes'] == 20000


def test_terminal_controls_are_made_harmless_on_a_terminal(drover):
    """`logs` to a file is exact; to a terminal it shows controls instead of obeying them, unless --raw."""
    task = drover.add('--', 'printf', r'\033]52;c;eHl6\007\033[2Jtext\n')[0]
    drover.wait_final(task)
    assert drover.run('logs', task, text=False).stdout == b'\x1b]52;c;eHl6\x07\x1b[2Jtext\n'
    shown = drover.run_on_terminal('logs', task)
    assert b'\x1b]52' not in shown and b'\x1b[2J' not in shown and b'text' in shown
    assert b'\x1b]52' in drover.run_on_terminal('logs', '--raw', task)


def test_the_log_removed_or_replaced_meanwhile(drover):
    """drover keeps writing to its own descriptor and follows no link."""
    gate = drover.gate()
    task = drover.shell(f'echo one; {gate.wait}; echo two')
    drover.wait_state(task, 'running')
    harness.wait_until(lambda: drover.log(task) == b'one\n', 20, 'the first line')
    path = drover.task(task)['log_path']
    victim = harness.write(os.path.join(drover.folder, 'victim'), 'untouched\n')
    os.unlink(path)
    os.symlink(victim, path)
    gate.open()
    assert drover.wait_final(task)['state'] == 'succeeded'
    assert harness.read(victim) == 'untouched\n'
    assert 'untouched' not in drover.run('logs', task).stdout


def test_the_log_cut_by_somebody(drover):
    """What comes goes to its place all the same; a log that is shorter than what was written is told."""
    gate = drover.gate()
    task = drover.shell(f'head -c 20000 /dev/zero; echo; {gate.wait}; echo two')
    harness.wait_until(lambda: drover.task(task)['log_path'] and len(drover.log(task)) == 20001, 20, 'the first part')
    path = drover.task(task)['log_path']
    os.truncate(path, 0)
    gate.open()
    assert drover.wait_final(task)['output_bytes'] == 20005
    done = drover.run('logs', task)
    assert done.returncode == 0 and done.stdout.endswith('two\n') and 'bytes' in done.stdout  # the hole is shown as one
    os.truncate(path, 5)
    drover.bad(1, 'logs', task, says=('#1', '20000 of 20005 bytes', 'cut'))


def test_the_log_replaced_by_other_things(drover):
    """Never followed, never waited at: a link, a pipe, a directory."""
    task = drover.add('--', 'echo', 'one')[0]
    path = drover.wait_final(task)['log_path']
    os.unlink(path)
    drover.bad(1, 'logs', task, says='No such file')
    for make in (lambda: os.symlink('/etc/hostname', path), lambda: os.mkfifo(path), lambda: os.mkdir(path)):
        make()
        drover.bad(1, 'logs', task, says='cannot read the log of #1')
        if os.path.isdir(path):
            os.rmdir(path)
        else:
            os.unlink(path)


def memory_peak_kib(pid):
    text = harness.read_proc(pid, 'status').decode()
    return int(text[text.index('VmHWM:') + 6:].split()[0])


@pytest.mark.limit(180)
@pytest.mark.parametrize('script', ["head -c 300000000 /dev/zero | tr '\\0' x",
                                    'dd if=/dev/zero bs=1 count=300000 status=none'])
def test_memory_and_disk_are_bounded_whatever_is_written(drover, script):
    """A line without an end, and a byte a write: shim and daemon need no more memory, the log no more than its cap."""
    gate = drover.gate()
    task = drover.shell(f'{gate.wait}; {script}; {gate.wait}')
    drover.wait_state(task, 'running')
    shim, daemon = drover.shim_of(task), drover.daemon_pid()
    before = [memory_peak_kib(pid) for pid in (shim, daemon)]
    os.write(gate.writer, b'\n')
    harness.wait_until(lambda: harness.children_of(shim) and os.stat(drover.task(task)['log_path']).st_size >= 300000 and
                       len(harness.children_of(drover.task(task)['pid'])) == 0, 120, 'all is written')
    after = [memory_peak_kib(pid) for pid in (shim, daemon)]
    gate.open()
    done = drover.wait_final(task, limit_s=60)
    assert done['output_bytes'] in (300000000, 300000)
    assert after[0] - before[0] < 1024 and after[1] - before[1] < 16 * 1024
    assert allocated(done['log_path']) <= 20 * MIB
    # Asked for by a small process: what the one that forks has is counted as its child's.
    measure = 'import resource, subprocess, sys\n' \
              'subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)\n' \
              'print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n'
    reader = drover.run('logs', task, before=[sys.executable, '-c', measure])
    assert reader.returncode == 0 and int(reader.stdout) < 120 * 1024  # a sanitizer's share included


def test_long_running_output_is_followed_past_the_daemons_death(drover):
    gate = drover.gate()
    task = drover.shell(f'echo one; {gate.wait}; echo two')
    drover.wait_state(task, 'running')
    follower = drover.popen('logs', '-f', task)
    assert follower.stdout.readline() == b'one\n'
    pid = drover.kill_daemon()
    drover.wait_daemon(other_than=pid)
    gate.open()
    assert follower.communicate(timeout=30)[0] == b'two\n'
    assert follower.returncode == 0
