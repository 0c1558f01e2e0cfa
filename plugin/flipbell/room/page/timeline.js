// Status over time: one lane for each check, one bar for each time that it had a status.

import { clockOf, element } from "./message.js";

const LANES = 8;
const KEPT = 400; // points, as the server gives
const SEVERITY = { CRITICAL: 3, UNKNOWN: 2, WARNING: 1, OTHER: 0, OK: 0 };
const LEAST = 20; // seconds that the timeline shows at least
const dayAndClock = new Intl.DateTimeFormat(undefined, {
  weekday: "short", hour: "2-digit", minute: "2-digit",
});
const shortClock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

export class Timeline {
  #points = [];
  #range = 0;
  #section = document.getElementById("timeline");
  #lanes = document.getElementById("lanes");
  #axis = document.getElementById("axis");
  #more = document.getElementById("more-lanes");

  show(points) {
    this.#points = points;
    this.draw();
  }

  add(point) {
    const last = this.#points.at(-1);
    if (last && point[0] <= last[0]) return;
    this.#points.push(point);
    this.#points.splice(0, this.#points.length - KEPT);
    this.draw();
  }

  set range(seconds) {
    this.#range = seconds;
    this.draw();
  }

  draw() {
    const end = Date.now() / 1000;
    const first = this.#points.length ? this.#points[0][1] : end;
    const begin = this.#range ? end - this.#range : Math.min(first, end - LEAST);
    const lanes = lanesOf(this.#points, begin, end);
    this.#section.hidden = lanes.length === 0;
    this.#lanes.replaceChildren(...lanes.slice(0, LANES).map((lane) => laneElement(lane, begin, end)));
    this.#axis.replaceChildren(...ticks(begin, end));
    this.#more.hidden = lanes.length <= LANES;
    this.#more.textContent = `and ${lanes.length - LANES} more that changed earlier`;
  }
}

function lanesOf(points, begin, end) {
  const bySubject = new Map();
  for (const [, at, subject, status] of points) {
    const bars = bySubject.get(subject) ?? [];
    bySubject.set(subject, bars);
    const last = bars.at(-1);
    if (last?.status === status) continue;
    if (last) last.end = at;
    bars.push({ status, begin: at, end: Infinity });
  }
  const lanes = [...bySubject].map(([subject, bars]) => ({
    subject, now: bars.at(-1), bars: bars.filter((bar) => bar.end > begin && bar.begin < end),
  }));
  const rank = (lane) => [SEVERITY[lane.now.status], lane.now.begin];
  return lanes.filter((lane) => lane.bars.length).sort((one, other) => {
    const [a, b] = [rank(one), rank(other)];
    return b[0] - a[0] || b[1] - a[1];
  });
}

function laneElement({ subject, bars, now }, begin, end) {
  const track = element("span", "track");
  for (const bar of bars) {
    const from = Math.max(bar.begin, begin);
    const to = Math.min(bar.end, end);
    const drawn = element("i", `bar s-${bar.status}`);
    drawn.style.left = `min(${(100 * (from - begin)) / (end - begin)}%, 100% - 4px)`;
    drawn.style.width = `${(100 * (to - from)) / (end - begin)}%`;
    drawn.title = `${bar.status} from ${clockOf(bar.begin)} for ${lasted(to - bar.begin)}`;
    track.append(drawn);
  }
  const changes = bars.map((bar) => `${bar.status} from ${clockOf(bar.begin)}`).slice(-4).join(", ");
  track.setAttribute("role", "img");
  track.setAttribute("aria-label", `${subject}: ${changes}`);
  const name = element("span", "subject", subject);
  name.title = subject;
  return element("li", "lane", name, track, element("span", `now s-${now.status}`, word(now.status)));
}

function word(status) {
  return status === "OTHER" ? "—" : status;
}

function ticks(begin, end) {
  const long = end - begin > 86400;
  const count = long || window.innerWidth < 700 ? 2 : 4;
  return Array.from({ length: count + 1 }, (_, number) => {
    const at = begin + ((end - begin) * number) / count;
    const format = long ? dayAndClock : shortClock;
    const text = end - begin < 600 ? clockOf(at) : format.format(at * 1000);
    const tick = element("span", "", number === count ? "now" : text);
    tick.style.left = `${(100 * number) / count}%`;
    return tick;
  });
}

function lasted(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const at = Math.max(0, units.findIndex(([, size]) => seconds >= size));
  if (seconds < 1) return "a moment";
  const parts = [];
  let rest = Math.floor(seconds);
  for (const [unit, size] of units.slice(at, at + 2)) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count) parts.push(`${count} ${unit}`);
  }
  return parts.join(" ");
}
