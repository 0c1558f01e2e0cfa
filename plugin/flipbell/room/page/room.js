// The page: rooms on the left, the messages of one of them, and what comes by itself.

import { dayOf, element, headline, icon, render } from "./message.js";
import { Bell } from "./ring.js";
import { Timeline } from "./timeline.js";

const KEPT = 400; // messages on the page before old ones are let go
const NEAR = 120; // pixels from the end that still count as the end
const AGAIN = 2000; // milliseconds until a refused stream is asked for again
const $ = (id) => document.getElementById(id);
const bell = new Bell();
const timeline = new Timeline();
const rooms = new Map();
const feed = $("feed");
const list = $("messages");
let current = null; // the id of the room that is shown
let opening = 0; // counts, so that a slow answer does not overwrite a later one
let waiting = null; // what came while a room was being opened
let hasMore = false;
let isLoading = false;
let last = ""; // the id of the last event
let stream = null;
let rang = 0;
let follows = true; // whether the newest message is in sight, and stays there
let unseen = 0;
let isAway = false; // whether somebody looks at another window

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

async function start() {
  const known = await ask("api/rooms");
  rooms.clear();
  for (const room of known.rooms) rooms.set(room.id, { ...room, last: room.last[0], unread: 0, rings: 0 });
  listRooms();
  connect(`${known.store}:${known.newest}`);
  await openFromAddress();
}

function listRooms() {
  $("rooms").replaceChildren(...[...rooms.values()].map(roomItem));
}

function roomItem(room) {
  const link = element("a", "room");
  link.href = `#room-${room.id}`;
  if (room.id === current) link.setAttribute("aria-current", "page");
  const color = room.last?.color;
  link.append(color ? icon(color) : element("span", "icon none"), element("span", "room-name", room.name));
  if (color) link.append(element("span", "visually-hidden", `, last message ${color}`));
  if (room.unread) {
    const badge = element("span", room.rings ? "badge rings" : "badge");
    if (room.rings) badge.append(icon("bell"));
    badge.append(String(room.unread), element("span", "visually-hidden", room.rings ? " new, some ring" : " new"));
    link.append(badge);
  }
  return element("li", "", link);
}

async function openFromAddress() {
  const asked = Number(location.hash.replace("#room-", ""));
  const id = rooms.has(asked) ? asked : rooms.keys().next().value;
  if (id !== undefined) await open(id);
}

async function open(id) {
  const turn = ++opening;
  const room = rooms.get(id);
  current = id;
  waiting = [];
  Object.assign(room, { unread: 0, rings: 0 });
  $("name").textContent = room.name;
  listRooms();
  retitle();
  try {
    const [page, times] = await Promise.all([
      ask(`api/rooms/${id}/messages`), ask(`api/rooms/${id}/timeline`),
    ]);
    if (turn !== opening) return;
    const came = waiting;
    waiting = null;
    list.replaceChildren(...withDays(page.messages));
    hasMore = page.more;
    timeline.show(times.points);
    came.forEach(show);
    settle();
    toEnd();
  } catch (error) {
    if (turn === opening) setTimeout(() => turn === opening && open(id), AGAIN);
  }
}

function withDays(messages, dayBefore = "") {
  const items = [];
  for (const message of messages) {
    const today = dayOf(message);
    if (today !== dayBefore) items.push(element("li", "day", element("span", "", today)));
    dayBefore = today;
    items.push(render(message));
  }
  return items;
}

function settle() {
  $("older").hidden = !hasMore;
  $("empty").hidden = list.childElementCount > 0;
  const shown = list.querySelectorAll("article").length;
  $("summary").textContent = shown ? `${shown}${hasMore ? "+" : ""} messages` : "";
}

function isAtEnd() {
  return feed.scrollHeight - feed.scrollTop - feed.clientHeight < NEAR;
}

function toEnd() {
  follows = true;
  feed.scrollTop = feed.scrollHeight;
  unseen = 0;
  $("newer").hidden = true;
}

async function showOlder() {
  const first = list.querySelector("li[data-id]");
  if (isLoading || !hasMore || !first) return;
  isLoading = true;
  const turn = opening;
  try {
    const page = await ask(`api/rooms/${current}/messages?before=${first.dataset.id}`);
    if (turn !== opening) return;
    const height = feed.scrollHeight;
    const heading = list.querySelector("li.day");
    const items = withDays(page.messages);
    if (page.messages.length && dayOf(page.messages.at(-1)) === first.dataset.day) heading?.remove();
    list.prepend(...items);
    feed.scrollTop += feed.scrollHeight - height;
    hasMore = page.more;
    settle();
  } catch {
    // the button is still there
  } finally {
    isLoading = false;
  }
}

function show(message) {
  append(message);
  if (message.point) timeline.add([message.id, message.at, ...message.point]);
}

function append(message) {
  const newest = list.lastElementChild;
  if (Number(newest?.dataset.id ?? 0) >= message.id) return;
  const items = withDays([message], newest?.dataset.day ?? "");
  items.at(-1).classList.add("new");
  list.append(...items);
  if (follows) letGo();
  settle();
  if (follows) return toEnd();
  unseen += 1;
  $("newer").textContent = `${unseen} new ↓`;
  $("newer").hidden = false;
}

function letGo() {
  while (list.querySelectorAll("article").length > KEPT) {
    list.firstElementChild.remove();
    hasMore = true;
  }
}

function take(event) {
  last = event.lastEventId;
  const message = JSON.parse(event.data);
  const room = rooms.get(message.room);
  if (!room) return void start();
  room.last = message;
  if (message.room !== current) {
    room.unread += 1;
    room.rings += message.notify;
  } else if (waiting) {
    waiting.push(message);
  } else {
    show(message);
  }
  if (message.notify) ring();
  $(message.notify ? "rung" : "said").textContent = `${room.name}: ${headline(message)}`;
  listRooms();
}

function ring() {
  rang += 1;
  bell.ring();
  retitle();
}

function retitle() {
  const name = rooms.get(current)?.name ?? "";
  document.title = `${rang ? `(${rang}) 🔔 ` : ""}${name ? `${name} – ` : ""}flipbell room`;
  $("rang").hidden = rang === 0;
  $("rang-text").textContent = `${rang} rang`;
  $("rang").title = "Heard: stop marking it";
}

function heard() {
  rang = 0;
  retitle();
}

function connect(after) {
  stream?.close();
  last = after;
  stream = new EventSource(`events?after=${encodeURIComponent(after)}`);
  stream.addEventListener("open", () => tellLink("live", "Live"));
  stream.addEventListener("ready", (event) => { last = event.lastEventId; });
  stream.addEventListener("message", take);
  stream.addEventListener("reset", () => void restart());
  stream.addEventListener("error", () => {
    tellLink("lost", "Connection lost, trying again…");
    if (stream.readyState === EventSource.CLOSED) setTimeout(() => connect(last), AGAIN);
  });
}

function restart() {
  stream?.close();
  start().catch(() => {
    tellLink("lost", "Connection lost, trying again…");
    setTimeout(restart, AGAIN);
  });
}

function tellLink(kind, text) {
  $("link").dataset.kind = kind;
  if ($("link-text").textContent !== text) $("link-text").textContent = text;
}

async function turnSound(isOn) {
  await (isOn ? bell.turnOn() : bell.turnOff());
  $("sound").setAttribute("aria-pressed", String(bell.isOn));
  $("sound-text").textContent = bell.isOn ? "Sound on" : "Sound off";
  if (bell.isOn) bell.ring();
}

function neighbour(step) {
  const ids = [...rooms.keys()];
  const id = ids[(ids.indexOf(current) + step + ids.length) % ids.length];
  if (id !== undefined) location.hash = `#room-${id}`;
}

$("sound").addEventListener("click", () => turnSound(!bell.isOn));
$("rang").addEventListener("click", heard);
$("older").addEventListener("click", showOlder);
$("newer").addEventListener("click", toEnd);
$("range").addEventListener("change", (event) => { timeline.range = Number(event.target.value); });
feed.addEventListener("scroll", () => {
  follows = isAtEnd();
  if (follows) { unseen = 0; $("newer").hidden = true; }
});
new ResizeObserver(() => { if (follows) toEnd(); }).observe(feed);
window.addEventListener("resize", () => timeline.draw());
window.addEventListener("blur", () => { isAway = true; });
window.addEventListener("focus", () => {
  if (isAway) heard();
  isAway = false;
});
window.addEventListener("hashchange", () => {
  if (location.hash.startsWith("#room-")) openFromAddress();
});
window.addEventListener("keydown", (event) => {
  if (event.altKey && event.key === "ArrowDown") { event.preventDefault(); neighbour(1); }
  if (event.altKey && event.key === "ArrowUp") { event.preventDefault(); neighbour(-1); }
});
new IntersectionObserver((seen) => {
  if (seen.some((entry) => entry.isIntersecting) && feed.scrollTop > 0) showOlder();
}, { root: feed, rootMargin: "200px" }).observe($("older"));
setInterval(() => { if (!document.hidden) timeline.draw(); }, 5000);
restart();
