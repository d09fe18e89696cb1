"""A commit finds no room while others wait: what was refused never was, whoever comes between."""
import os
import threading

import pytest

import harness
from test_exhaustion import check_status, injected

FAIL_FIRST = 'inject=pwrite64:error=ENOSPC:delay_enter=2000000:when=1'


def make_draft(link, command):
    draft = link.call('batch.open', {'cwd': '/tmp', 'umask': 0o22})['draft']
    link.call('batch.add', {'draft': draft, 'tasks': [{'command': ['sh', '-c', command]}]})
    return draft


class Asking(threading.Thread):
    """A commit whose answer is awaited elsewhere."""

    def __init__(self, path, command, key):
        super().__init__()
        self.link = harness.Raw(path)
        self.params = {'draft': make_draft(self.link, command), 'key': key}
        self.answer = None

    def run(self):
        self.answer = self.link.ask('batch.commit', self.params)

    def error(self):
        self.join()
        return self.answer['error']['message']


@pytest.mark.limit(90)
def test_all_that_waits_for_a_commit_without_room_is_refused(make_drover):
    """One commit is in flight, another gathers behind it, the first is asked for again: all are refused alike, and each of
    the keys can be used later for tasks that exist."""
    drover = make_drover(environment={'ASAN_OPTIONS': 'detect_leaks=0'})
    ran = os.path.join(drover.folder, 'ran')
    drover.wait_final(drover.shell('true'))
    path = drover.daemon_status()['socket']
    wal = os.path.join(drover.state, 'drover.db-wal')
    first, behind, again = (Asking(path, f'echo {word} >> {ran}', key)
                            for word, key in (('a', 'k1'), ('b', 'k2'), ('c', 'k1')))
    look = harness.Raw(path)
    with injected(drover, drover.daemon_pid(), '-P', wal, '-e', 'trace=pwrite64', '-e', FAIL_FIRST):
        first.start()
        harness.wait_until(lambda: look.call('status')['queued'] + look.call('status')['running'] > 0, 5, 'it is in flight')
        behind.start()
        again.start()
        for asking in (first, behind, again):
            assert 'disk full' in asking.error()
            assert 'this is done' not in asking.error()
    harness.wait_until(lambda: check_status(drover)['problems'] == [], 20, 'the commit was tried again')
    given = {}
    for word, key in (('b', 'k2'), ('a', 'k1')):
        answer = look.call('batch.commit', {'draft': make_draft(look, f'echo {word} >> {ran}'), 'key': key})
        given[key] = answer['first']
        assert drover.wait_final(str(given[key]))['state'] == 'succeeded'
    pid = drover.daemon_pid()
    drover.good('daemon', 'restart')
    drover.wait_daemon(other_than=pid)
    look = harness.Raw(path)
    for key, task in given.items():
        answer = look.call('batch.commit', {'draft': make_draft(look, f'echo twice >> {ran}'), 'key': key})
        assert answer['first'] == task
    assert harness.read(ran).split() == ['b', 'a'] and len(drover.tasks()) == 3


@pytest.mark.limit(60)
def test_refused_submission_is_gone_after_a_stop(make_drover):
    """The daemon is told to stop while the commit is tried again: what was refused does not run after the next start."""
    drover = make_drover(environment={'ASAN_OPTIONS': 'detect_leaks=0'})
    ran = os.path.join(drover.folder, 'ran')
    drover.wait_final(drover.shell('true'))
    wal = os.path.join(drover.state, 'drover.db-wal')
    with injected(drover, drover.daemon_pid(), '-P', wal, '-e', 'trace=pwrite64,fdatasync',
                  '-e', 'inject=pwrite64:error=ENOSPC:when=1', '-e', 'inject=fdatasync:delay_enter=1500000') as log:
        drover.bad(1, 'add', '--', 'sh', '-c', f'echo refused >> {ran}', says='disk full')
        harness.wait_until(lambda: harness.read(log).count('pwrite64') > 1, 10, 'it is tried again')
        drover.good('daemon', 'stop')
    drover.start()
    drover.wait_final(drover.shell(f'echo later >> {ran}'))
    assert harness.read(ran) == 'later\n'
    assert len(drover.tasks()) == 2


@pytest.mark.limit(90)
@pytest.mark.parametrize('error', ['ENOSPC', 'EDQUOT'])
def test_no_room_to_move_the_log_into_the_database(make_drover, error):
    """The log has all of it still: it grows, nothing is refused, and nothing has to be restarted."""
    drover = make_drover(environment={'ASAN_OPTIONS': 'detect_leaks=0'})
    drover.shell('true')
    drover.good('pause')
    database = os.path.join(drover.state, 'drover.db')
    link = harness.Raw(drover.daemon_status()['socket'])
    tasks = [{'command': ['true', 'x' * 3000]} for _ in range(250)]
    with injected(drover, drover.daemon_pid(), '-P', database, '-e', 'trace=pwrite64',
                  '-e', f'inject=pwrite64:error={error}') as log:
        def submit():
            draft = link.call('batch.open', {'cwd': '/tmp', 'umask': 0o22})['draft']
            link.call('batch.add', {'draft': draft, 'tasks': tasks})
            link.call('batch.commit', {'draft': draft})
            return 'INJECTED' in harness.read(log)
        harness.wait_until(submit, 30, 'the log was to be moved')
        submit()
        assert check_status(drover)['problems'] == []
    submit()
    assert check_status(drover)['problems'] == []


@pytest.mark.limit(60)
def test_the_end_of_a_stop_needs_no_store(make_drover, repository):
    """The store breaks under a stop that ends the tasks: what is left in a worktree is for the next daemon to collect."""
    drover = make_drover(environment={'ASAN_OPTIONS': 'detect_leaks=0'})
    task = drover.good('add', '--worktree', '--', 'sh', '-c', 'echo new > new; exec sleep 1000', cwd=repository).split()[-1]
    drover.wait_state(task, 'running')
    wal = os.path.join(drover.state, 'drover.db-wal')
    with injected(drover, drover.daemon_pid(), '-P', wal, '-e', 'trace=pwrite64,fdatasync',
                  '-e', 'inject=pwrite64,fdatasync:error=EIO') as log:
        drover.run('daemon', 'stop', '--stop-tasks', limit_s=20)
        assert 'INJECTED' in harness.read(log)
    harness.wait_until(lambda: drover.daemon_pid() is None, 10, 'it has ended')
    drover.start()
    assert drover.wait_final(task)['changed_files'] == 1
