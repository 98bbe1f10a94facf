"""What this machine can do, and what to do about each gap. Keys are named, never shown."""

from labkit.doctor.finding import GAP, NOTE, OK, Finding
from labkit.doctor.summary import bug_report, examine, gaps, report, text

__all__ = ["GAP", "NOTE", "OK", "Finding", "bug_report", "examine", "gaps", "report", "text"]
