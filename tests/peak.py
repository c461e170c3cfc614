"""The most memory that a process had. `getrusage` says less: its number goes on from that of the parent process."""

from pathlib import Path

CODE = """
def peak():
    with open("/proc/self/status") as file:
        return 1024 * int(file.read().partition("VmHWM:")[2].split()[0])
"""
"""What defines `peak`, in bytes, in the code of a child process."""

THERE = Path("/proc/self/status").exists()
