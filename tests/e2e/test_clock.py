"""The wall clock jumps by ten years, forth and back: it is shown, and nothing else depends on it (FAULTS 58).

The daemon gets a wall clock of its own by libfaketime; what it is told is in a file that the test rewrites.
"""
import glob
import json
import os

import pytest

import harness

LIBRARIES = glob.glob('/usr/lib/*/faketime/libfaketime.so.1')
YEARS = 10 * 365 * 86400

pytestmark = pytest.mark.skipif(not LIBRARIES, reason='needs libfaketime: tools/install-deps check')


class Clock:
    """The daemon's wall clock, set off from the real one by so many seconds."""

    def __init__(self, drover):
        self.path = os.path.join(drover.folder, 'clock')
        self.drover = drover
        self.set(0)
        asan = drover.environment['ASAN_OPTIONS'] + ':verify_asan_link_order=0'
        self.environment = {
            'LD_PRELOAD': LIBRARIES[0], 'FAKETIME_TIMESTAMP_FILE': self.path, 'FAKETIME_NO_CACHE': '1',
            'FAKETIME_DONT_FAKE_MONOTONIC': '1', 'NO_FAKE_STAT': '1', 'ASAN_OPTIONS': asan,
        }
        drover.before = ['env', *(f'{name}={value}' for name, value in self.environment.items())]
        drover.good('daemon', 'start')
        drover.before = []

    def set(self, seconds):
        harness.write(self.path + '.new', f'{seconds:+d}\n')
        os.rename(self.path + '.new', self.path)

    def year(self):
        """Of a new task: what the daemon takes for the present."""
        task = self.drover.add('--', 'true')[0]
        return int(self.drover.wait_final(task)['created_at'][:4])


def check_jump(drover, clock, seconds):
    """Tasks in every stage over a jump; they end as they would have without."""
    gate = drover.gate(f'gate{len(drover.gates)}')
    limited = drover.shell(f'{gate.wait}; echo done', '-j', 8, '--timeout', '10m')
    frozen = drover.shell(f'{gate.wait}; echo done', '-j', 8, '--timeout', '10m')
    drover.wait_state(limited, 'running')
    drover.wait_state(frozen, 'running')
    drover.good('suspend', frozen)
    retried = drover.shell('test $DROVER_ATTEMPT = 2', '--retries', 1, '--retry-delay', '2s')
    drover.wait_state(retried, 'queued')
    finished = [task['id'] for task in drover.tasks() if task['state'] == 'succeeded']
    year = clock.year()
    clock.set(seconds)
    harness.wait_until(lambda: abs(clock.year() - year) >= 9, 20, 'the clock has jumped')
    pid = drover.kill_daemon()
    drover.wait_daemon(other_than=pid)
    assert (drover.state_of(limited), drover.state_of(frozen)) == ('running', 'suspended')
    drover.good('resume', frozen)
    gate.open()
    for task in (limited, frozen, retried):
        done = drover.wait_final(task, limit_s=20)
        assert done['state'] == 'succeeded', done
        assert 0 <= done['duration_s'] < 60
    known = {task['id']: task for task in drover.tasks()}
    assert set(finished) <= set(known)  # nothing is forgotten for its age
    assert all(task['duration_s'] >= 0 for task in known.values() if task['duration_s'] is not None)
    assert all(os.path.exists(known[task]['log_path']) for task in finished)


@pytest.mark.limit(120)
def test_ten_years_forth_and_back(drover):
    clock = Clock(drover)
    for seconds in (YEARS, -YEARS, 0):
        check_jump(drover, clock, seconds)
    seqs = [event['seq'] for event in replay(drover)]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


def replay(drover):
    raw = drover.connect()
    last = raw.call('events.subscribe', {})['seq']
    raw.close()
    raw = drover.connect()
    raw.call('events.subscribe', {'after_seq': 0})
    events = []
    while not events or events[-1]['seq'] < last:
        events.append(json.loads(raw.line())['params'])
    raw.close()
    return events


def test_finished_tasks_are_kept_by_the_time_that_passed(drover):
    """Over a housekeeping after the jump, which would forget what it finds too old; that it was here, the socket tells."""
    clock = Clock(drover)
    kept = drover.add('--', 'echo', 'kept')[0]
    drover.wait_final(kept)
    clock.set(YEARS)
    assert clock.year() > 2030
    path = drover.daemon_status()['socket']
    os.unlink(path)
    harness.wait_until(lambda: os.path.exists(path), 20, 'the socket is made anew')
    assert drover.log(kept) == b'kept\n'
