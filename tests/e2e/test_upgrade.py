"""The programs replaced while tasks run (FAULTS 6): tasks go on under the new ones."""
import os
import shutil

import harness

PROGRAMS = ('drover', 'drover-daemon', 'drover-keeper', 'drover-worktree')


def install(drover, folder):
    """A copy of the programs, put in place by rename as package managers do."""
    os.makedirs(folder, exist_ok=True)
    for name in PROGRAMS:
        new = os.path.join(folder, name + '.new')
        shutil.copy2(os.path.join(drover.build, 'src', name), new)
        os.rename(new, os.path.join(folder, name))
    return folder


def test_a_restart_takes_the_new_programs(drover):
    drover.programs = install(drover, os.path.join(drover.folder, 'bin'))
    drover.client = os.path.join(drover.programs, 'drover')
    drover.environment['DROVER_LIBEXEC_DIR'] = drover.programs
    gate = drover.gate()
    task = drover.shell(f'echo begin; {gate.wait}; echo end')
    leader = drover.wait_state(task, 'running')['pid']
    old = os.stat(f'/proc/{drover.daemon_pid()}/exe').st_ino
    install(drover, drover.programs)
    drover.good('daemon', 'restart')
    assert os.stat(f'/proc/{drover.daemon_pid()}/exe').st_ino != old
    assert drover.task(task)['pid'] == leader
    gate.open()
    done = drover.wait_final(task)
    assert (done['state'], done['attempt']) == ('succeeded', 1)
    assert drover.log(task) == b'begin\nend\n'
    assert drover.good('run', 'echo', 'again') == 'again\n'
