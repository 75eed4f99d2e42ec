// Reads conversations from OpenClaw's database, whether OpenClaw runs or not.
// In: one line of JSON {op: "list"}, {op: "read", key, limit, before, textMax?} or {op: "both", …},
// each with the database's path. Out: one line of JSON {ok, payload | error}. Long texts are cut to
// textMax, but a user's to TEXT_MAX at least, as a user's message may contain several messages. A
// page ends early if it would have more than PAGE_BYTES.
import { createInterface } from "node:readline";
import { statSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { zstdDecompressSync } from "node:zlib";

const BUSY_MS = 5_000;
const LIST_MAX = 10_000;
const TEXT_MAX = 200_000;
const TEXT_LIMIT = 4_000_000;
const PAGE_BYTES = 4_000_000;
const OFF_BRANCH_EXTRA = 100;
const EVENT_BYTES = 64 * 1024 * 1024;

const LIST = `
  SELECT n.session_key AS key, n.updated_at AS updated_at, w.channel AS channel, w.model AS model,
    (SELECT min(created_at) FROM session_windows WHERE session_key = n.session_key) AS created_at,
    i.active_message_count AS messages
  FROM session_nodes n
  LEFT JOIN session_windows w ON w.session_id = n.current_session_id
  LEFT JOIN session_transcript_index_state i ON i.session_id = n.current_session_id
  ORDER BY n.updated_at DESC LIMIT ${LIST_MAX + 1}`;
const WINDOW = `
  SELECT n.current_session_id AS id, i.needs_rebuild AS stale
  FROM session_nodes n
  LEFT JOIN session_transcript_index_state i ON i.session_id = n.current_session_id
  WHERE n.session_key = ?`;
const COLUMNS = "PRAGMA table_info(transcript_events)";
// The active branch by OpenClaw's own index; without an index, all messages in their order.
const indexed = (packed) => `
  SELECT a.message_position AS position, e.seq AS seq, e.event_json AS text, ${packed} AS packed
  FROM session_transcript_active_events a
  JOIN transcript_events e ON e.session_id = a.session_id AND e.seq = a.event_seq
  WHERE a.session_id = ? AND a.message_position IS NOT NULL AND a.message_position < ?
  ORDER BY a.message_position DESC LIMIT ?`;
// Messages off the active branch, between two that are on it: they got no answer, and were taken
// back or sent again.
const offBranch = (packed) => `
  SELECT e.seq AS seq, e.event_json AS text, ${packed} AS packed FROM transcript_events e
  WHERE e.session_id = $id AND e.seq < $last
    AND e.seq > coalesce((SELECT max(a.event_seq) FROM session_transcript_active_events a
      WHERE a.session_id = $id AND a.message_position < $first), -1)
    AND (e.event_json IS NULL OR e.event_json LIKE '{"type":"message"%')
    AND NOT EXISTS (SELECT 1 FROM session_transcript_active_events a
      WHERE a.session_id = $id AND a.event_seq = e.seq)
  ORDER BY e.seq LIMIT $limit`;
const HAS_LATER = `
  SELECT 1 FROM session_transcript_active_events
  WHERE session_id = ? AND message_position >= ? LIMIT 1`;
const UNINDEXED = `
  SELECT * FROM (
    SELECT row_number() OVER (ORDER BY e.seq) - 1 AS position, e.event_json AS text, NULL AS packed
    FROM transcript_events e
    WHERE e.session_id = ? AND e.event_json LIKE '{"type":"message"%')
  WHERE position < ? ORDER BY position DESC LIMIT ?`;

function cut(text, limit = TEXT_MAX) {
  const whole = String(text ?? "");
  return { text: whole.slice(0, limit), isCut: whole.length > limit, length: whole.length };
}

function partOf(block, limit) {
  if (block?.type === "toolCall") {
    const isCut = JSON.stringify(block.arguments ?? {}).length > Math.max(TEXT_MAX, limit);
    const args = isCut ? null : block.arguments;
    return { type: "call", id: block.id, name: block.name, arguments: args, is_cut: isCut };
  }
  if (block?.type === "text") {
    const { text, isCut, length } = cut(block.text, limit);
    return { type: "text", text, is_cut: isCut, length };
  }
  return { type: block?.type === "image" ? "image" : "other" };
}

function eventOf(row) {
  return JSON.parse(row.text ?? zstdDecompressSync(row.packed, { maxOutputLength: EVENT_BYTES }).toString());
}

function messageOf(row, textMax) {
  const event = eventOf(row);
  const message = event.message ?? {};
  const content = Array.isArray(message.content)
    ? message.content
    : [{ type: "text", text: message.content }];
  const limit = message.role === "user" ? Math.max(TEXT_MAX, textMax) : textMax;
  const { input, output, cacheRead, cacheWrite } = message.usage ?? {};
  return {
    position: row.position,
    id: event.id,
    at: message.timestamp,
    role: message.role,
    parts: content.map((block) => partOf(block, limit)),
    call_id: message.toolCallId,
    name: message.toolName,
    is_error: message.isError,
    is_pending: message.details?.status === "pending",
    model: message.model,
    usage: message.usage && { input, output, cache_read: cacheRead, cache_write: cacheWrite },
    run_id: message.__openclaw?.runId,
    error: message.errorMessage && cut(message.errorMessage).text,
  };
}

// Releases before 2026.9.6 compress no events, and do not have the column.
function packedColumn(database) {
  const columns = database.prepare(COLUMNS).all();
  return columns.some((each) => each.name === "event_zstd") ? "e.event_zstd" : "NULL";
}

function withOffBranch(database, id, rows, messages, before, limit, textMax, packed) {
  const first = rows.at(-1)?.position ?? 0;
  const isEnd = database.prepare(HAS_LATER).get(id, before) === undefined;
  const last = isEnd ? Number.MAX_SAFE_INTEGER : (rows[0]?.seq ?? 0);
  const others = database.prepare(offBranch(packed)).all({ id, first, last, limit: limit + OFF_BRANCH_EXTRA })
    .filter((row) => eventOf(row).type === "message")
    .map((row) => {
      const next = rows.findLast((each) => each.seq > row.seq);
      const position = next?.position ?? (rows[0]?.position ?? -1) + 1;
      return { seq: row.seq, message: { ...messageOf({ ...row, position }, textMax), is_off_branch: true } };
    });
  const onBranch = messages.map((message, at) => ({ seq: rows[rows.length - 1 - at].seq, message }));
  return [...onBranch, ...others].sort((a, b) => a.seq - b.seq).map((each) => each.message);
}

function read(database, { key, limit, before, textMax: wanted }) {
  const textMax = Math.min(wanted ?? TEXT_MAX, TEXT_LIMIT);
  const window = database.prepare(WINDOW).get(key);
  if (window === undefined) return { is_known: false, messages: [], has_more: false };
  const packed = packedColumn(database);
  const query = database.prepare(window.stale === 0 ? indexed(packed) : UNINDEXED);
  const newestFirst = [];
  const rows = [];
  let bytes = 0;
  let hasMore = false;
  for (const row of query.iterate(window.id, before, limit + 1)) {
    const message = messageOf(row, textMax);
    bytes += Buffer.byteLength(JSON.stringify(message));
    if (newestFirst.length === limit || (newestFirst.length > 0 && bytes > PAGE_BYTES)) {
      hasMore = true;
      break;
    }
    newestFirst.push(message);
    rows.push({ position: row.position, seq: row.seq });
  }
  const messages = newestFirst.reverse();
  if (window.stale !== 0) return { is_known: true, messages, has_more: hasMore };
  const all = withOffBranch(database, window.id, rows, messages, before, limit, textMax, packed);
  return { is_known: true, messages: all, has_more: hasMore };
}

function list(database) {
  const sessions = database.prepare(LIST).all();
  return { sessions: sessions.slice(0, LIST_MAX), has_more: sessions.length > LIST_MAX };
}

const NONE = { is_known: false, messages: [], sessions: [], has_more: false };

function answer(request) {
  // An agent without a turn has no database. Opening a FIFO there would block.
  if (!statSync(request.path, { throwIfNoEntry: false })?.isFile()) return NONE;
  const database = new DatabaseSync(request.path, { readOnly: true, timeout: BUSY_MS });
  // Do not run functions that the agent may have put into the schema.
  database.exec("PRAGMA trusted_schema = OFF; PRAGMA query_only = ON");
  // OpenClaw has created the file, but no tables yet.
  if (database.prepare("SELECT 1 FROM sqlite_master LIMIT 1").get() === undefined) return NONE;
  if (request.op === "list") return list(database);
  const page = read(database, request);
  return request.op === "read" ? page : { ...list(database), ...page };
}

// The engine may drop what an ended program wrote, so this one ends when its answer was read.
function leave() {
  if (process.stdin.readableEnded) process.exit(0);
  process.stdin.once("end", () => process.exit(0));
}

const { value: input } = await createInterface({ input: process.stdin })[Symbol.asyncIterator]().next();
let output;
try {
  output = { ok: true, payload: answer(JSON.parse(input)) };
} catch (error) {
  output = { ok: false, error: { message: String(error?.message ?? error) } };
}
// JSON.stringify escapes unpaired surrogates, which the server's parser rejects.
const line = JSON.stringify(output).replace(/\\\\|\\ud[89a-f][0-9a-f]{2}/g, (match) =>
  match === "\\\\" ? match : "\\ufffd");
process.stdout.write(`${line}\n`, leave);
