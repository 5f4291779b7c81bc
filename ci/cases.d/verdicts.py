"""What an attack's output must say and must not say: one small function for each, which lists complaints.

An attack prints what it saw in words of its own; these rules read those words. Rules for every attack come first
(neighbours are served, nothing hangs, the daemon lives); an attack that has none of its own is judged by them alone.
"""
import ast, re

# The runs of each attack; what is not named here runs once, without arguments.
ARGUMENTS = {
    'b_door': [['callrace'], ['fusemeta'], ['fuseinflight'], ['fusemem']],
    'b_pin': [['pin'], ['addr'], ['table'], ['storm']],
    'c_kick': [['kicks'], ['greedy'], ['churn'], ['setvringcall'], ['wce']],
    'devfaults': [[mode] for mode in ('hang', 'hangkill', 'loophang', 'loophangkill', 'eio', 'fsyncfail', 'enospc', 'truncate', 'unlink', 'loopdetach', 'smallfs', 'remountro')],
    'fuzzmsg': [['20', '1']],
    'hangexit': [['rw', 'kill'], ['flush', 'kill'], ['rw', 'term'], ['flush', 'term']],
    'killstamp': [['10']],
    'powercut': [[mode, '5', '1'] for mode in ('flush', 'wce0', 'noflush', 'meta')],
}
# Seconds for those that need longer than others.
LIMITS_S = {'a3_state': 420, 'killstamp': 300, 'powercut': 300, 'c_leak': 300, 'hangexit': 300}

# Attacks whose own program does not end where Palisade does right: what they have said once they have come to that point, and
# how many seconds they have from then on to end by themselves. After that they are ended and judged by what they said.
# - c_leak asks for the list of events as it once was; an event stream, which it is now, has no end.
# - b_door fusemem stops at its own assertion when its memory is refused, and a thread of its file system stays.
ENDLESS = {
    'c_leak': (r'(?s)(60 volume\+attachment create/delete.*){3}\n', 10),
    'b_door:fusemem': (r'(?m)^AssertionError', 10),
}

# A neighbour on the same reactor may be slowed (the machine is shared with the attack itself) but not stopped.
STUCK_S_MAX = 2.0
WORDS_OF_FAILURE = ('DAEMON DIED', 'VICTIM STALLED', 'HANGS', 'STILL THERE', 'still there after', 'still running after', 'not ended in', 'NOT SERVED', 'SUCCESSOR NOT UP', 'DOUBLE_ANSWER', 'LOST_REQUESTS', '!!')


def judge(name, arguments, output, status):
    """Complaints about a run; none: it held. None instead of a list when it only said how it is called. `status` is None for
    one of ENDLESS that was ended."""
    if name not in ARGUMENTS and status != 0 and 'sys.argv' in output and 'IndexError' in output:
        return None
    own = globals().get('rule_' + name)
    refused = own is not None and name in REFUSAL_IS_RIGHT and refused_by_the_daemon(output)
    # The attack ends the daemon before it says by what it was ended itself.
    why = neighbours(output.split('Traceback')[0] if refused else output)
    if refused and name in WITH_NEIGHBOUR and 'victim ops=' not in output.split('Traceback')[0]:
        why.append('no neighbour was seen to be served')
    # A process killed while its device hangs stays as long as the device does; its successor must not wait for it.
    excused = ('STILL THERE', 'still there after') if 'kill' in ' '.join(arguments) else ()
    why += [f'says "{word}"' for word in WORDS_OF_FAILURE if word in output and word not in excused]
    # The older copy's volume, of which the case asks next, was rightly refused.
    expected = name == 'a3_oldcopy' and last_exception(output) == "KeyError: 'state'" and output.count(' older creates 409') == 3
    if 'Traceback' in output and not refused and not expected:
        why.append('ended by an exception: ' + last_exception(output))
    if own and not refused:
        why += own(arguments, output)
    return why


# Attacks that offer the daemon something it may refuse to take: the session is closed or answered with an error, and the
# attack, which does not expect that, ends by an exception.
REFUSAL_IS_RIGHT = {'b_door', 'b_fusemem', 'b_pin', 'b_smear'}
# Those of them that look at a neighbour meanwhile.
WITH_NEIGHBOUR = {'b_door', 'b_fusemem', 'b_pin'}


def refused_by_the_daemon(output):
    end = last_exception(output)
    return 'Traceback' in output and any(word in end for word in ('AssertionError', 'Closed', 'ConnectionReset', 'BrokenPipe'))


def last_exception(output):
    lines = [line for line in output.splitlines() if re.match(r'^[A-Za-z_.]*(Error|Exception|Closed|Expired|Timeout)\b', line)]
    return lines[-1][:200] if lines else 'unknown'


def neighbours(output):
    """The victim prints a line a second. It does not connect again, so what comes after a case's own restart of the daemon
    (devfaults truncate, unlink, and those that kill it) says nothing of it."""
    for restart in ('\nrestart:', '\nhealth while deleted file is served:', '\nkill -9 ended'):
        output = output.split(restart)[0]
    why = []
    for ops, bad, stuck in re.findall(r'victim ops=(\d+) .*bad=(\d+) stuck=([\d.]+)s', output):
        if float(stuck) > STUCK_S_MAX:
            why.append(f'a neighbour was stuck for {stuck} s')
        if int(bad):
            why.append(f'a neighbour got {bad} bad answers')
    return why[:2]


def line_with(output, text):
    return next((line for line in output.splitlines() if text in line), '')


def want(output, *patterns):
    """Complaints for each pattern that is nowhere in the output."""
    return [f'nowhere: {pattern}' for pattern in patterns if not re.search(pattern, output)]


def never(output, *patterns):
    return [f'says: {found.group(0)[:120]}' for found in (re.search(pattern, output) for pattern in patterns) if found]


def sigterm(output, seconds_max=20):
    found = re.search(r'SIGTERM (?:took )?([\d.]+)s rc (-?\d+)', output)
    if not found:
        return ['SIGTERM: no end seen']
    why = [] if float(found[1]) <= seconds_max else [f'SIGTERM took {found[1]} s']
    return why + ([] if found[2] == '0' else [f'SIGTERM: exit status {found[2]}'])


def answered(output, seconds_max=2.0):
    """REST answered `/path STATUS 0.123s` in time."""
    why = []
    for path in ('/health', '/node', '/attachments'):
        found = re.search(rf'^{path} (\d+) ([\d.]+)s', output, re.M)
        if not found or found[1] != '200' or float(found[2]) > seconds_max:
            why.append(f'{path} was not answered in {seconds_max} s')
    return why


# What a virtual machine is connected to is taken away only with `force`: refused at once is right as well.
DELETED = r'DELETE a2 (20[04]|409)'


def rule_a3_oldcopy(_, output):
    why = never(output, r'older writes usurper0 \(\[0\]', r'older attaches 201 in_force True')
    if re.search(r'older copy: \[\]', output):
        why.append('the older copy of the database found nothing wrong with a newer disk')
    # Where nothing is agreed on, the case has no volume of the older copy to go on with.
    refused = len(re.findall(r' older creates 409 None None', output)) == 3
    return why if refused else why + want(output, r"precious reads \(\[0\], b'PPPPPPPP'\)")


def rule_a3_state(_, output):
    why = want(output, r'same state dir: \([1-9]', r'copied state dir beside the first: \[\(', r'older copy alone: \[\(', r"the newer one again: \[\] .*'later'")
    if 'head repaired' not in output.split('daemon with head damaged', 1)[-1].split('daemon with both', 1)[0]:
        why.append('one damaged superblock copy was not mended')
    counts = re.search(r'same volumes as clean\): (\{.*\})', output)
    for (where, _rc, same), count in (ast.literal_eval(counts[1]) if counts else {}).items():
        if where != 'both' and not same:
            why.append(f'inspect: {count} single bits in the {where} copy changed what it says')
    for line in output.splitlines():
        up = re.match(r'(state|log)\.redb (\w+) UP volumes (\[.*?\])', line)
        if up and up[1] == 'state' and not {'v1', 'v2', 'later'} <= set(ast.literal_eval(up[3])):
            why.append(f'a damaged database ({up[2]}) was taken for an empty one')
    return why + want(output, r'state\.redb bitflips', r'log\.redb remove')


def rule_b_broken(_, output):
    why = []
    if line_with(output, 'health [').endswith(' ok'):
        why.append('a broken ring is no finding: health says ok')
    if re.search(r'^\[\]$', output, re.M):
        why.append('no metric tells of it')
    return why + want(output, r'GET_VRING_BASE \(')


def rule_b_call_reactor(_, output):
    return answered(output) + want(output, DELETED) + sigterm(output)


def rule_b_door(_, output):
    return answered(output) + want(output, DELETED, r'third tenant connects: ok', r'socket exists True') + never(output, r'door blocked after', r'\bEXC\b') + sigterm(output)


def rule_b_fusemem(_, output):
    return want(output, DELETED, r'kill -9 took')


def rule_b_mailbox(_, output):
    return want(output, r'(?m)^/health 200', r'(?m)^/attachments 200', r'(?m)^/node 200') + sigterm(output)


def rule_b_pin(arguments, output):
    why = never(output, r'daemon rc -?\d+', r"'gone'|gone cg", r'health EXC')
    if arguments == ['addr']:
        why += want(output, r'third tenant connects: ok', r'create v9 20[01]')
    if arguments == ['table']:
        why += want(output, r'innocent tenant connects: ok')
    if arguments == ['storm']:
        most = re.search(r'most threads seen (\d+)', output)
        if not most or int(most[1]) > 60:
            why.append('a thread for each message')
    if arguments == ['pin']:
        used = [int(mib) for mib in re.findall(r'cg MiB (\d+)', output)]
        if used and used[-1] > 1000:
            why.append(f'the daemon pays {used[-1]} MiB for memory that the guest never touched')
    return why


def rule_b_smear(_, output):
    return never(output, r'(?m)^failing', r'hostile gone: (?!online)', r"'disk_failing'")


def rule_c_kick(_, output):
    return want(output, r'hostile did \d+', r'victim ops=')


def rule_c_leak(_, output):
    why = want(output, ENDLESS['c_leak'][0]) + never(output, r'cannot delete')
    looks = re.findall(r"^(\w+).*?'Threads': (\d+).*?'fds': (\d+).*?'maps': (\d+)", output, re.M)
    reconnects = [at for at, look in enumerate(looks) if look[0] == 'after']
    if not looks or looks[0][0] != 'start' or len(reconnects) < 3:
        return why + ['the reconnects did not all end']
    # Each look comes within a millisecond of the last front-end's end and may meet its session, which ends a few milliseconds
    # later. What is kept for good is seen at every later look: the least of those from the last reconnects on counts. No
    # look may show more than one session besides.
    session = {'threads': 2, 'descriptors': 16, 'mappings': 32}
    for column, (name, slack) in enumerate(zip(session, (3, 6, 16)), 1):
        counts = [int(look[column]) for look in looks]
        kept = min(counts[reconnects[-1]:])
        if kept > counts[0] + slack:
            why.append(f'{name} grow: {counts[0]} to {kept}')
        elif max(counts) > counts[0] + slack + session[name]:
            why.append(f'{name}: {max(counts)} at once, {counts[0]} at the beginning')
    sizes = [int(n) for n in re.findall(r"'log': (\d+)", output)]
    if len(sizes) > 4 and sizes[4] - sizes[3] > 300_000:
        why.append(f'bare connects wrote {sizes[4] - sizes[3]} bytes of log in 5 s')
    return why


def rule_devfaults(arguments, output):
    mode = arguments[0]
    told = {
        'hang': [r"health \[\(", r'released: .* health \[\]'],
        'loophang': [r"health \[\(", r'released: .* health \[\]'],
        'hangkill': [r"health \[\(", r'successor up', r'answers after reconnect \d+ still out 0'],
        'loophangkill': [r"health \[\(", r'successor up', r'answers after reconnect \d+ still out 0'],
        'eio': [r"w,r,f \[1\] \[1\].*\n\[\('", r'healed: w,r,f \[0\] \[0\] \[0\]', r'later \[\]'],
        'fsyncfail': [r'flush \[1\]', r"flush again .*\[\('"],
        'enospc': [r"writes .*(?i:space|full)", r'space is back: w,f \[0\] \[0\]'],
        'truncate': [r"later \[\('"],
        'unlink': [r"health while deleted file is served: \[\('"],
        'loopdetach': [r"w/r beyond backing .*\[\('", r'backing back \[0\] \[0\] \[0\]'],
        'smallfs': [r"(?i)1 MiB writes .*\n\[\(.*(space|full)"],
        'remountro': [r'(?m)^w \['],
    }
    return want(output, *told.get(mode, [])) + sigterm(output)


def rule_fuzzmsg(_, output):
    why = want(output, r'a2 serves again \[0\]', r'a3 serves again \[0\]', r'(?m)^0 panics')
    fds = re.search(r'fds (\d+) -> (\d+)', output)
    if fds and int(fds[2]) > int(fds[1]) + 12:
        why.append(f'descriptors grew from {fds[1]} to {fds[2]}')
    return why


def rule_hangexit(arguments, output):
    why = want(output, r'successor up after', r'healthy attachment a1 \(disk d1\) served True', r'answers \d+ outstanding 0')
    served = re.search(r'served True ([\d.]+)s', output)
    if served and float(served[1]) > 12:
        why.append(f'a healthy disk waited {served[1]} s for another')
    return why + (want(output, r'process gone after') if arguments[1] == 'term' else [])


def rule_killstamp(_, output):
    return want(output, r'FINAL .*errs \{\}', r'after clean restart errs \{\}')


def rule_powercut(_, output):
    return want(output, r'FINAL .*errs \{\}')
