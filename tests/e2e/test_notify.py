"""The end of a long batch is told: on a terminal by bell and desktop notice, and by the user's own command."""
import os
import re

import pytest

import harness

OSC = re.compile(rb'\x1b\](9;|777;notify;drover;)([^\x1b\x07]*)\x1b\\\x07')


def configure(drover, text):
    folder = os.path.join(drover.folder, 'home', '.config', 'drover')
    os.makedirs(folder, exist_ok=True)
    harness.write(os.path.join(folder, 'config.yaml'), text)


def noting(drover):
    """A program that writes down its arguments and what it was told in the environment."""
    path = os.path.join(drover.folder, 'note me')
    note = os.path.join(drover.folder, 'note')
    harness.write(path, f'#!/bin/sh\n{{ printf "%s\\n" "$@"; env | grep ^DROVER_ | sort; }} > {note}.part\n'
                        f'mv {note}.part {note}\n')
    os.chmod(path, 0o755)
    return path, note


def test_a_terminal_is_rung_when_asked_to_or_when_it_took_long(drover):
    shown = drover.run_on_terminal('run', '--notify', '--', 'true', ':::', '1', '2')
    kind, text = OSC.search(shown).groups()
    assert kind == b'9;' and re.match(rb'drover: 2 tasks: 2 succeeded in ', text)
    assert b'\x07' not in drover.run_on_terminal('run', '--', 'true', ':::', '1', '2')
    configure(drover, 'notifyAfter: 100ms\n')
    assert OSC.search(drover.run_on_terminal('run', '--', 'sleep', '0.2'))
    assert b'\x07' not in drover.run_on_terminal('run', '--notify=never', '--', 'sleep', '0.2')
    assert b'\x07' not in drover.run_on_terminal('run', '--', 'true')
    task = drover.add('sleep', '0.3')[0]
    assert OSC.search(drover.run_on_terminal('wait', task))


@pytest.mark.parametrize('kind, wanted', [('xterm-256color', b'\x1b]9;'), ('rxvt-unicode', b'\x1b]777;'), ('linux', b''),
                                          ('tmux-256color', b''), ('dumb', b'')])
def test_each_terminal_gets_what_it_understands(drover, kind, wanted):
    shown = drover.run_on_terminal('run', '--notify', '--', 'true', terminal=kind)
    assert b'\x07' in shown and (wanted in shown if wanted else b'\x1b]' not in shown)


def test_nothing_is_rung_into_a_file(drover):
    done = drover.run('run', '--notify', '--', 'echo', 'x', text=False)
    assert (done.stdout, done.stderr) == (b'x\n', b'')


def test_the_users_command_is_told_the_result(drover):
    """As an argv: nothing of it is read by a shell."""
    path, note = noting(drover)
    configure(drover, f'notify: ["{path}", "a; touch x", "$HOME"]\n')
    drover.run('run', '--notify', '--batch', 'b', '--', 'sh', '-c', 'exit {}', ':::', '0', '1')
    lines = harness.wait_until(lambda: os.path.exists(note) and harness.read(note), 20, 'the command ran').splitlines()
    assert lines[:2] == ['a; touch x', '$HOME']
    told = dict(line.split('=', 1) for line in lines[2:])
    assert (told['DROVER_RESULT'], told['DROVER_TASKS'], told['DROVER_SUCCEEDED'], told['DROVER_NOT_SUCCEEDED'],
            told['DROVER_BATCH']) == ('failed', '2', '1', '1', '1')
    assert float(told['DROVER_DURATION_S']) > 0 and told['DROVER_NOTICE'].startswith('2 tasks: 1 succeeded, 1 failed in')


def test_a_command_that_is_not_there_is_told_and_changes_no_status(drover):
    configure(drover, 'notify: /no/such/program\n')
    done = drover.run('run', '--notify', '--', 'true')
    assert done.returncode == 0 and "'/no/such/program'" in done.stderr and 'No such file' in done.stderr
    assert drover.run('run', '--', 'true').stderr == ''
    configure(drover, 'notify: notify-send drover\n')
    assert 'give a list' in drover.run('run', '--notify', '--', 'true').stderr


def test_a_repository_has_no_say_in_it(drover, repository):
    path, note = noting(drover)
    harness.write(os.path.join(repository, '.parallel.yaml'), f'notify: "{path}"\n')
    drover.bad(2, 'run', '--notify', 'true', says=['notify', 'not for a repository to set'])
    harness.write(os.path.join(repository, '.parallel.yaml'), 'notifyAfter: 1ms\n')
    drover.bad(2, 'run', '--notify', 'true', says=['notifyAfter', 'not for a repository to set'])
    assert not os.path.exists(note)
    drover.bad(2, 'run', '--notify=sometimes', 'true', says='is not auto, always or never')
