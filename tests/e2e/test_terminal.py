"""What tasks, names and commands contain must not command the terminal that shows them. FAULTS 26, 27."""
import json
import os
import re

import pytest

import harness

# Each with what must not reach a terminal of it.
HOSTILE = {
    'clipboard': (b'\x1b]52;c;ZXZpbA==\x07', b'\x1b]'),
    'title': (b'\x1b]0;evil\x1b\\', b'\x1b]'),
    'clear': (b'\x1b[2J\x1b[H', b'\x1b[2J'),
    'cursor up': (b'\x1b[1A\x1b[2K', b'\x1b[1A'),
    'query': (b'\x1b[c\x1bZ\x05', b'\x1b[c'),
    'C1 byte': (b'\x9b2J', b'\x9b2J'),
    'C1 character': (b'\xc2\x9b2J', b'\xc2\x9b'),
    'right to left': ('ab\u202ecd'.encode(), b'\xe2\x80\xae'),
    'isolate': ('ab\u2066cd'.encode(), b'\xe2\x81\xa6'),
    'backspaces': (b'rm\x08\x08ls', b'\x08'),
    'NUL': (b'a\x00b', b'\x00'),
    'bad UTF-8': (b'\xff\xfe\xe2\x28', b'\xff'),
    'cut UTF-8': (b'x\xe2\x82', b'\xe2\x82'),
}


def without_own(shown):
    """What a terminal got less the sequences that drover itself uses for progress and colours."""
    return re.sub(rb'\x1b\[(?:\d+A\r|[JK]|[0-9;]*m)', b'', shown)


def writes(data):
    return ['printf', '%b', ''.join(f'\\0{byte:03o}' for byte in data) + '\\n']


def is_harmless(shown, forbidden):
    left = without_own(shown)
    return forbidden not in left and b'\x1b' not in left and b'\x07' not in left


def test_logs_and_run_show_controls_and_obey_none(drover):
    for name, (data, forbidden) in HOSTILE.items():
        done = drover.run('run', '--', *writes(data), text=False)
        assert done.stdout == data + b'\n', name  # to a pipe: byte by byte
        task = drover.tasks()[-1]['id']
        assert drover.run('logs', task, text=False).stdout == data + b'\n', name
        assert is_harmless(drover.run_on_terminal('logs', task), forbidden), name
    for name in ('clipboard', 'right to left', 'C1 character'):
        data, forbidden = HOSTILE[name]
        assert is_harmless(drover.run_on_terminal('run', '--', *writes(data)), forbidden), name
        assert is_harmless(drover.run_on_terminal('run', '--', *writes(data), ':::', '1', '2'), forbidden), name
        assert forbidden in drover.run_on_terminal('run', '--raw', '--', *writes(data)), name
        assert forbidden in drover.run_on_terminal('logs', '--raw', drover.tasks()[-1]['id']), name


def test_a_sequence_in_two_writes_is_one_sequence(drover):
    shown = drover.run_on_terminal('run', '--', 'sh', '-c', r"printf '\033'; sleep 0.1; printf ']52;c;eA==\007\n'")
    assert is_harmless(shown, b'\x1b]') and b'\\x1b]52' in shown


def test_colours_pass_and_end_with_the_task(drover):
    shown = drover.run_on_terminal('run', '--', 'printf', r'\033[31mred')
    assert shown.startswith(b'\x1b[31mred\x1b[0m')


@pytest.mark.parametrize('command', [['ls'], ['show'], ['why'], ['logs'], ['events'], ['status'], ['ls', '--json'],
                                     ['show', '--json'], ['events', '--json']])
def test_tables_and_json_of_hostile_commands(drover, command):
    """On a terminal and off it: what is not output of a task is shown visibly everywhere."""
    words = ['\x1b]52;c;eA==\x07', 'a\u202eb', '\x9b', '\udc9b2J', 'line\nbreak', '\x7f']
    drover.run('run', '--name', 'bad', '--env', 'X=\x1b]0;t\x07', '--', 'false', *words)
    target = ['bad'] if command[0] in ('show', 'why', 'logs') else []
    shown = drover.run_on_terminal(*command, *target)
    left = without_own(shown)
    assert not re.search(b'[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]', left), shown
    assert not re.search('[\x80-\x9f\u202e]', left.decode(errors='strict')), shown
    if '--json' in command and command[0] == 'ls':
        assert json.loads(shown)['tasks'][0]['command'] == ['false', words[0], words[1], words[2], '\\x9b2J', *words[4:]]
    if command == ['ls']:
        piped = drover.run('ls', text=False).stdout
        assert b'\x1b' not in piped and '\u202e'.encode() not in piped and b'\\x1b]52' in piped


def test_values_as_tags_and_titles(drover):
    values = ['\x1b]0;t\x07one', 'two\u202e', 'three\x7f']
    for options in (['--tag'], ['--tag', '-k'], ['--progress', 'plain'], []):
        assert is_harmless(drover.run_on_terminal('run', *options, '--', 'true', '{}', ':::', *values), '\u202e'.encode())
    tagged = drover.good('run', '--tag', '-k', 'echo', ':::', values[0])
    assert tagged == '\\x1b]0;t\\x07one\t' + values[0] + '\n'


def test_errors_name_hostile_words_visibly(drover):
    for arguments in (['show', '\x1b]0;t\x07'], ['\x1b]0;t\x07'], ['run', '--\x1b]0;t\x07'],
                      ['run', '--name', 'a\u202e', 'true'], ['run', '--cwd', '/\x1b[2J', 'true'],
                      ['run', '/no/\x1b[2J/program'], ['run', '-f', '\x1b[2J']):
        done = drover.run(*arguments, text=False)
        assert done.returncode in (2, 127) and b'\x1b' not in done.stderr and b'\xe2\x80\xae' not in done.stderr, arguments


def test_the_daemons_log_is_text(drover):
    folder = os.path.join(drover.folder, 'x\x1b]0;t\x07\u202e')
    os.mkdir(folder)
    drover.run('run', '--cwd', folder, '/no/\x1b[2J')
    drover.run('run', '--cwd', folder, '--after-any', 1, '--stdin', '/no/\x1b[2J', 'true')
    raw = drover.connect(hello=False)
    raw.send(b'{"jsonrpc":"2.0","id":1,"method":"hello","params":{"protocol":1,"client":"\\u001b]0;t\\u0007"}}\n')
    raw.answer()
    raw.close()
    assert '\x1b' not in drover.daemon_log() and '\u202e' not in drover.daemon_log()


def test_a_line_of_megabytes_is_cut_on_a_terminal_only(drover):
    task = drover.add('--', 'sh', '-c', "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo after")[0]
    drover.wait_final(task)
    shown = drover.run_on_terminal('logs', task)
    assert len(shown) < 20000 and 'more bytes in this line' in shown.decode() and shown.endswith(b'after\r\n')
    assert len(drover.run('logs', task).stdout) == 3000000 + 7
    assert len(drover.run_on_terminal('logs', '--raw', task)) >= 3000000


def test_a_progress_bar_of_a_task_lives_on_a_terminal(drover):
    """Written over and over with carriage returns: many short lines, not one long one."""
    script = "i=0; while [ $i -lt 3000 ]; do printf 'step %05d of 3000\\r' $i; i=$((i+1)); done; echo done"
    shown = drover.run_on_terminal('run', '--', 'sh', '-c', script)
    assert b'step 02999 of 3000\r' in shown and b'more bytes' not in shown and shown.endswith(b'done\r\n')
