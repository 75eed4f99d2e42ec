"""What `transcripts.mjs` reads of OpenClaw's database of conversations."""

from __future__ import annotations

READ = {
    "session_nodes": ("session_key", "updated_at", "current_session_id"),
    "session_windows": ("session_id", "session_key", "channel", "model", "created_at"),
    "session_transcript_index_state": ("session_id", "active_message_count", "needs_rebuild"),
    "session_transcript_active_events": ("session_id", "event_seq", "message_position"),
    "transcript_events": ("session_id", "seq", "event_json"),
}
"""Tables with their columns."""
OPTIONAL = "event_zstd"
"""A column of `transcript_events` that releases before 2026.9.6 do not have."""
