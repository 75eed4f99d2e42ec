// What a number of trials says about a pass rate, and their run. The statistics are those of the Python
// package (chowder_local/trials/statistics.py, which has the sources); a test compares them.
import { createHash, randomInt } from "node:crypto";

const MAX_TRIALS = 1_000;
const FIRST_LOOK = 10;
const WIDEST_Z = 10;
const WIDTH_STEPS = 20;
const ROUNDING = 1e-9;
const MAX_AT_ONCE = 8;
const SEEDS = 2 ** 32;

/** Wilson's interval of a pass rate; `z` is the quantile of the normal distribution. */
export function wilson(passed, counted, z) {
  if (counted === 0) return [0, 1];
  const rate = passed / counted;
  const weight = (z * z) / counted;
  const half = z * Math.sqrt((rate * (1 - rate) + weight / 4) / counted);
  const middle = rate + weight / 2;
  return [
    passed === 0 ? 0 : (middle - half) / (1 + weight),
    passed === counted ? 1 : (middle + half) / (1 + weight),
  ];
}

/** At most so many trials, of which the share `atLeast` has to pass. */
export class Plan {
  constructor({ trials, atLeast = 1, confidence = 0.95 }) {
    if (!(Number.isInteger(trials) && trials >= 1 && trials <= MAX_TRIALS)) {
      throw new RangeError(`trials should be 1 to ${MAX_TRIALS}, not ${trials}`);
    }
    if (!(atLeast > 0 && atLeast <= 1)) {
      throw new RangeError(`atLeast should be above 0 and at most 1, not ${atLeast}`);
    }
    if (!(confidence >= 0.5 && confidence < 1)) {
      throw new RangeError(`confidence should be 0.5 to below 1, not ${confidence}`);
    }
    Object.assign(this, { trials, atLeast, confidence });
    this.needed = Math.ceil(atLeast * trials - ROUNDING);
    this.z = width(this);
  }

  interval(passed, counted) {
    return wilson(passed, counted, this.z);
  }

  /** On which side of the demanded rate the interval lies, if it lies on one. */
  side(passed, failed) {
    return side(passed, passed + failed, this.atLeast, this.z);
  }

  /** The verdict, as soon as it is certain. */
  verdict(passed, failed, undecided = 0) {
    const decided = this.side(passed, failed);
    if (decided) return decided;
    if (passed >= this.needed) return "passed";
    if (failed > this.trials - this.needed) return "failed";
    return passed + failed + undecided === this.trials ? "undecided" : undefined;
  }

  /** How many trials at this pass rate would prove on which side it is; undefined if none would. */
  trialsToProve(rate) {
    const distance = Math.abs(rate - this.atLeast);
    if (distance < ROUNDING) return undefined;
    const number = (this.z ** 2 * this.atLeast * (1 - this.atLeast)) / distance ** 2;
    return Math.max(FIRST_LOOK, Math.ceil(number - ROUNDING));
  }
}

function side(passed, counted, atLeast, z) {
  if (counted < FIRST_LOOK) return undefined;
  const [low, high] = wilson(passed, counted, z);
  if (low >= atLeast) return "passed";
  return high < atLeast ? "failed" : undefined;
}

/** The least width at which all looks together err with 1 - `confidence` at most, each way. */
function width({ trials, atLeast, confidence }) {
  const allowed = 1 - confidence;
  const isWide = (z) => Math.max(...errors(trials, atLeast, z)) <= allowed;
  let narrow = quantile((1 + confidence) / 2);
  let wide = WIDEST_Z;
  if (isWide(narrow)) return narrow;
  for (let step = 0; step < WIDTH_STEPS; step += 1) {
    const middle = (narrow + wide) / 2;
    if (isWide(middle)) wide = middle;
    else narrow = middle;
  }
  return wide;
}

/** How often intervals decide for and against a rate that is exactly the demanded one. */
function errors(trials, atLeast, z) {
  let going = new Map([[0, 1]]);
  let [forIt, against] = [0, 0];
  for (let count = 1; count <= trials; count += 1) {
    const after = new Map();
    for (const [passes, probability] of going) {
      after.set(passes, (after.get(passes) ?? 0) + probability * (1 - atLeast));
      after.set(passes + 1, (after.get(passes + 1) ?? 0) + probability * atLeast);
    }
    for (const [passes, probability] of after) {
      const decided = side(passes, count, atLeast, z);
      if (!decided) continue;
      after.delete(passes);
      if (decided === "passed") forIt += probability;
      else against += probability;
    }
    going = after;
  }
  return [forIt, against];
}

/** The quantile of the normal distribution, by halving on its distribution function. */
function quantile(probability) {
  let [low, high] = [0, WIDEST_Z];
  for (let step = 0; step < 60; step += 1) {
    const middle = (low + high) / 2;
    if (normal(middle) < probability) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** The normal distribution function for z >= 0, by its series (Abramowitz and Stegun, 26.2.11). */
function normal(z) {
  let term = z;
  let sum = z;
  for (let odd = 3; term > 1e-17 * sum; odd += 2) {
    term *= (z * z) / odd;
    sum += term;
  }
  return 0.5 + (sum * Math.exp((-z * z) / 2)) / Math.sqrt(2 * Math.PI);
}

export const newSeed = () => randomInt(SEEDS);

/** A trial of a run with a seed: its number, its seed, and random numbers of its own. */
export function trialOf(seed, number) {
  const own = createHash("sha256").update(`${seed}:${number}`).digest().readUInt32BE(0);
  let state = own;
  // Mulberry32 by Tommy Ettinger, which is in the public domain.
  const random = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / SEEDS;
  };
  return { number, seed: own, random };
}

/** How many trials have room: two, or as many as there are warm sandboxes and places. */
export function howManyAtOnce({ instances, hibernated, places, pool }) {
  const free = places === null ? MAX_AT_ONCE : places - ((instances.running ?? 0) - hibernated);
  return Math.max(1, Math.min(MAX_AT_ONCE, free, Math.max(2, pool.size)));
}

/**
 * Runs trials until the verdict is certain. It is on the first trials by number: in the order of their
 * ends, quick failures would count before slow passes. What `make` throws ends the run.
 */
export async function runTrials(plan, seed, atOnce, make) {
  const ended = new Map();
  const results = [];
  const counts = { passed: 0, failed: 0, undecided: 0 };
  let begun = 0;
  let last = plan.trials;
  let verdict;
  let thrown;
  const worker = async () => {
    while (!verdict && !thrown && begun < last) {
      begun += 1;
      const trial = trialOf(seed, begun);
      try {
        const result = { number: trial.number, seed: trial.seed, ...(await make(trial)) };
        ended.set(trial.number, result);
        if (result.isLast) last = begun;
      } catch (failure) {
        thrown ??= { failure };
      }
      while (!verdict && ended.has(results.length + 1)) {
        const next = ended.get(results.length + 1);
        results.push(next);
        counts[next.outcome] += 1;
        verdict = plan.verdict(counts.passed, counts.failed, counts.undecided);
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  if (thrown) throw thrown.failure;
  return { plan, seed, verdict: verdict ?? "undecided", results, ...counts, uncounted: begun - results.length };
}

/** The report for people. */
export function linesOf({ plan, seed, verdict, results, passed, failed, undecided, uncounted }) {
  const counted = passed + failed;
  const [low, high] = plan.interval(passed, counted).map((bound) => bound.toFixed(3));
  const rate = passed / counted;
  const interval = `interval ${low} to ${high} at confidence ${plan.confidence}`;
  const shares = counted > 0 ? ` (${Number(rate.toPrecision(3))}; ${interval})` : "";
  const without = undecided > 0 ? `, ${undecided} undecided` : "";
  const number = counted > 0 ? plan.trialsToProve(rate) : undefined;
  const proof = {
    passed: "It is proved at this confidence that the rate is reached.",
    failed: "It is proved at this confidence that the rate is missed.",
  }[plan.side(passed, failed)];
  const remedy = number
    ? `It is not proved at this confidence: at this rate, ${number} trials would prove it.`
    : "The rate is the demanded one, so no number of trials would prove the verdict.";
  const total = (name) => results.reduce((sum, each) => sum + each.spent[name], 0);
  const isKnown = results.every(({ spent }) => spent.costUsd !== null);
  const cost = isKnown ? `${total("costUsd").toFixed(4)} USD` : "unknown, as a price is";
  const lines = [
    `${verdict}: ${passed} of ${counted} trials passed${shares}${without}. At least ${plan.atLeast} should pass.`,
    counted > 0 ? (proof ?? remedy) : "No trial has an outcome.",
    `Cost ${cost}, ${total("tokens")} tokens, ${total("modelCalls")} model calls, ${total("turns")} turns.`,
    `Seed ${seed}.`,
  ];
  if (uncounted > 0) {
    lines.push(`${uncounted} more had begun when the verdict was certain: not counted.`);
  }
  for (const outcome of ["failed", "undecided"]) {
    const some = results.filter((each) => each.outcome === outcome);
    const listed = some.map((each) => `${each.number} (seed ${each.seed})`).join(", ");
    if (some.length > 0) lines.push(`Trials that are ${outcome}: ${listed}.`);
  }
  return lines;
}
