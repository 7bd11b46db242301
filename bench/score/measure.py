"""Runs a program and measures it. It imports neither NumPy nor Arrow: on Linux a child's peak RSS begins at its parent's."""

import os
import subprocess
import sys
import time

INTERVAL = 0.2
TICK = os.sysconf("SC_CLK_TCK")


def descendants(root):
    """The ids of a process and of all that it has started, as far as they are its descendants still."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as f:
                    parent = int(f.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue  # It has ended.
            children.setdefault(parent, []).append(int(name))
    found, todo = [], [root]
    while todo:
        process = todo.pop()
        found.append(process)
        todo += children.get(process, [])
    return found


class Tree:
    """What a process and its descendants take together. CPU seconds are by process, as last seen."""

    def __init__(self):
        self.seconds, self.peak = {}, 0

    def look(self, root):
        total = 0
        for process in descendants(root):
            try:
                with open(f"/proc/{process}/stat", "rb") as f:
                    fields = f.read().rpartition(b")")[2].split()
                self.seconds[process] = (int(fields[11]) + int(fields[12])) / TICK
                with open(f"/proc/{process}/smaps_rollup", "rb") as f:
                    for line in f:
                        if line.startswith(b"Pss:"):
                            total += int(line.split()[1]) * 1024
                            break
            except OSError:
                pass  # It has ended.
        self.peak = max(self.peak, total)


def run(command, log, tree=False):
    """Runs a command to its end and returns its seconds, CPU seconds, and peak memory in MB.

    CPU is that of the process and of the children that it has waited for, memory the peak RSS of the largest of them. With tree, which needs
    Linux, both are those of all its descendants together, looked at five times a second: memory is their PSS, which counts what they share
    once, or the largest's RSS if that is more, as it has no gaps.
    """
    with open(log, "wb") as f:
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=f, stderr=subprocess.STDOUT)
        together = Tree()
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG if tree else 0)
            if ended:
                break
            together.look(process.pid)
            time.sleep(INTERVAL)
        wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit code {process.returncode}\n{log.read_text(errors='replace')[-4000:]}")
    largest = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if tree:
        return {"wall": wall, "cpu": sum(together.seconds.values()), "memory": max(together.peak, largest) / 1e6}
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "memory": largest / 1e6}
