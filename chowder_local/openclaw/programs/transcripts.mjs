// Reads the conversations that OpenClaw keeps in its database, whether it runs or not.
// In: one line of JSON {op: "list"}, {op: "read", key, limit, before, textMax?} or, for both at once,
// {op: "both", …}, each with the database's path. What a person said is not cut to textMax, as it
// may have more folded into it. Out: one line of JSON {ok, payload | error}; long texts are cut, and a page ends early
// rather than that it becomes too long.
import { createInterface } from "node:readline";
import { statSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { zstdDecompressSync } from "node:zlib";

const BUSY_MS = 5_000;
const LIST_MAX = 10_000;
const TEXT_MAX = 200_000;
const TEXT_MOST = 4_000_000;
const PAGE_BYTES = 4_000_000;
const BESIDE_MORE = 100;
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
// The branch that counts, by OpenClaw's own index; without that, all there is in its order.
const INDEXED = `
  SELECT a.message_position AS position, e.seq AS seq, e.event_json AS text, e.event_zstd AS packed
  FROM session_transcript_active_events a
  JOIN transcript_events e ON e.session_id = a.session_id AND e.seq = a.event_seq
  WHERE a.session_id = ? AND a.message_position IS NOT NULL AND a.message_position < ?
  ORDER BY a.message_position DESC LIMIT ?`;
// Messages beside that branch, between two that are on it: nothing came of them, and they were
// taken back, or their words were sent again.
const BESIDE = `
  SELECT e.seq AS seq, e.event_json AS text, e.event_zstd AS packed FROM transcript_events e
  WHERE e.session_id = $id AND e.seq < $last
    AND e.seq > coalesce((SELECT max(a.event_seq) FROM session_transcript_active_events a
      WHERE a.session_id = $id AND a.message_position < $first), -1)
    AND (e.event_json IS NULL OR e.event_json LIKE '{"type":"message"%')
    AND NOT EXISTS (SELECT 1 FROM session_transcript_active_events a
      WHERE a.session_id = $id AND a.event_seq = e.seq)
  ORDER BY e.seq LIMIT $limit`;
const IS_THERE = `
  SELECT 1 FROM session_transcript_active_events
  WHERE session_id = ? AND message_position >= ? LIMIT 1`;
const UNINDEXED = `
  SELECT * FROM (
    SELECT row_number() OVER (ORDER BY e.seq) - 1 AS position, e.event_json AS text, NULL AS packed
    FROM transcript_events e
    WHERE e.session_id = ? AND e.event_json LIKE '{"type":"message"%')
  WHERE position < ? ORDER BY position DESC LIMIT ?`;

function cut(text, most = TEXT_MAX) {
  const whole = String(text ?? "");
  return { text: whole.slice(0, most), isCut: whole.length > most, length: whole.length };
}

function partOf(block, most) {
  if (block?.type === "toolCall") {
    const isCut = JSON.stringify(block.arguments ?? {}).length > Math.max(TEXT_MAX, most);
    const given = isCut ? null : block.arguments;
    return { type: "call", id: block.id, name: block.name, arguments: given, is_cut: isCut };
  }
  if (block?.type === "text") {
    const { text, isCut, length } = cut(block.text, most);
    return { type: "text", text, is_cut: isCut, length };
  }
  return { type: block?.type === "image" ? "image" : "other" };
}

function eventOf(row) {
  return JSON.parse(row.text ?? zstdDecompressSync(row.packed, { maxOutputLength: EVENT_BYTES }).toString());
}

function messageOf(row, textMax) {
  const event = eventOf(row);
  const said = event.message ?? {};
  const content = Array.isArray(said.content) ? said.content : [{ type: "text", text: said.content }];
  const most = said.role === "user" ? Math.max(TEXT_MAX, textMax) : textMax;
  const { input, output, cacheRead, cacheWrite } = said.usage ?? {};
  return {
    position: row.position,
    id: event.id,
    at: said.timestamp,
    role: said.role,
    parts: content.map((block) => partOf(block, most)),
    call_id: said.toolCallId,
    name: said.toolName,
    is_error: said.isError,
    is_pending: said.details?.status === "pending",
    model: said.model,
    usage: said.usage && { input, output, cache_read: cacheRead, cache_write: cacheWrite },
    run_id: said.__openclaw?.runId,
    error: said.errorMessage && cut(said.errorMessage).text,
  };
}

function withThoseBeside(database, id, rows, messages, before, limit, most) {
  const first = rows.at(-1)?.position ?? 0;
  const isEnd = database.prepare(IS_THERE).get(id, before) === undefined;
  const last = isEnd ? Number.MAX_SAFE_INTEGER : (rows[0]?.seq ?? 0);
  const beside = database.prepare(BESIDE).all({ id, first, last, limit: limit + BESIDE_MORE })
    .filter((row) => eventOf(row).type === "message")
    .map((row) => {
      const next = rows.findLast((each) => each.seq > row.seq);
      const position = next?.position ?? (rows[0]?.position ?? -1) + 1;
      return { seq: row.seq, message: { ...messageOf({ ...row, position }, most), is_beside: true } };
    });
  const onIt = messages.map((message, at) => ({ seq: rows[rows.length - 1 - at].seq, message }));
  return [...onIt, ...beside].sort((one, other) => one.seq - other.seq).map((each) => each.message);
}

function read(database, { key, limit, before, textMax }) {
  const most = Math.min(textMax ?? TEXT_MAX, TEXT_MOST);
  const window = database.prepare(WINDOW).get(key);
  if (window === undefined) return { is_known: false, messages: [], has_more: false };
  const question = database.prepare(window.stale === 0 ? INDEXED : UNINDEXED);
  const found = [];
  const rows = [];
  let bytes = 0;
  let hasMore = false;
  for (const row of question.iterate(window.id, before, limit + 1)) {
    const message = messageOf(row, most);
    bytes += JSON.stringify(message).length;
    if (found.length === limit || (found.length > 0 && bytes > PAGE_BYTES)) {
      hasMore = true;
      break;
    }
    found.push(message);
    rows.push({ position: row.position, seq: row.seq });
  }
  const messages = found.reverse();
  if (window.stale !== 0) return { is_known: true, messages, has_more: hasMore };
  const all = withThoseBeside(database, window.id, rows, messages, before, limit, most);
  return { is_known: true, messages: all, has_more: hasMore };
}

function list(database) {
  const found = database.prepare(LIST).all();
  return { sessions: found.slice(0, LIST_MAX), has_more: found.length > LIST_MAX };
}

const NONE = { is_known: false, messages: [], sessions: [], has_more: false };

function answer(asked) {
  // An agent that was never spoken to has none. To open a pipe would wait for its other end.
  if (!statSync(asked.path, { throwIfNoEntry: false })?.isFile()) return NONE;
  const database = new DatabaseSync(asked.path, { readOnly: true, timeout: BUSY_MS });
  // What an agent may have put into its schema is not to be run.
  database.exec("PRAGMA trusted_schema = OFF; PRAGMA query_only = ON");
  // OpenClaw has opened it, and is about to make its tables.
  if (database.prepare("SELECT 1 FROM sqlite_master LIMIT 1").get() === undefined) return NONE;
  if (asked.op === "list") return list(database);
  return asked.op === "read" ? read(database, asked) : { ...list(database), ...read(database, asked) };
}

const { value: asked } = await createInterface({ input: process.stdin })[Symbol.asyncIterator]().next();
let told;
try {
  told = { ok: true, payload: answer(JSON.parse(asked)) };
} catch (problem) {
  told = { ok: false, error: { message: String(problem?.message ?? problem) } };
}
// Half of a character that takes two is escaped by now, and nobody can take it.
const line = JSON.stringify(told).replace(/\\\\|\\ud[89a-f][0-9a-f]{2}/g, (found) =>
  found === "\\\\" ? found : "\\ufffd");
process.stdout.write(`${line}\n`, () => process.exit(0));
