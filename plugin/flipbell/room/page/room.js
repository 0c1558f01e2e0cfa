// The page: rooms on the left, the messages of one of them, and new ones as they come.

import { Feed, ask } from "./feed.js";
import { element, headline, icon } from "./message.js";
import { Bell } from "./ring.js";

const AGAIN = 2000; // milliseconds until a refused stream is asked for again
const $ = (id) => document.getElementById(id);
const bell = new Bell(showSound);
const feed = new Feed();
const rooms = new Map();
let last = ""; // the id of the last event
let stream = null;
let rang = 0;
let isAway = false; // whether another window has the focus

async function start() {
  const known = await ask("api/rooms");
  rooms.clear();
  for (const room of known.rooms) rooms.set(room.id, { ...room, unread: 0, rings: 0 });
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
  if (room.id === feed.room) link.setAttribute("aria-current", "page");
  link.append(element("span", "room-name", room.name));
  if (room.unread) {
    const badge = element("span", room.rings ? "badge rings" : "badge");
    if (room.rings) badge.append(icon("bell"));
    badge.append(String(room.unread), element("span", "visually-hidden", room.rings ? " new, some ring" : " new"));
    link.append(badge);
  }
  return element("li", "", link);
}

async function openFromAddress(isMoving = false) {
  const [, number, encoded] = location.hash.match(/^#room-(\d+)(?:\/(.+))?$/) ?? [];
  const isKnown = rooms.has(Number(number));
  const id = isKnown ? Number(number) : rooms.keys().next().value;
  if (id === undefined) return;
  const uuid = isKnown && encoded ? decoded(encoded) : null;
  if (isMoving && uuid && id === feed.room && feed.mark(uuid)) return;
  await open(id, uuid);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

async function open(id, uuid) {
  const room = rooms.get(id);
  const opened = feed.open(id, uuid);
  $("name").textContent = room.name;
  Object.assign(room, { unread: 0, rings: 0 });
  listRooms();
  retitle();
  await opened;
}

function take(event) {
  last = event.lastEventId;
  const message = JSON.parse(event.data);
  const room = rooms.get(message.room);
  if (!room) return void start();
  if (message.room === feed.room) {
    feed.add(message);
  } else {
    room.unread += 1;
    room.rings += message.notify;
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
  const name = rooms.get(feed.room)?.name ?? "";
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

function showSound() {
  $("sound").setAttribute("aria-pressed", String(bell.isWanted));
  $("sound").classList.toggle("waits", bell.isWanted && !bell.isOn);
  $("sound-text").textContent = !bell.isWanted ? "Sound off" : bell.isOn ? "Sound on" : "Sound on: click once";
  $("sound").title = bell.isWanted && !bell.isOn ? "The browser plays no sound before you click or press a key" : "";
}

async function toggleSound() {
  if (bell.isOn) return bell.turnOff();
  await bell.turnOn();
  bell.ring();
}

function neighbour(step) {
  const ids = [...rooms.keys()];
  const id = ids[(ids.indexOf(feed.room) + step + ids.length) % ids.length];
  if (id !== undefined) location.hash = `#room-${id}`;
}

$("sound").addEventListener("click", toggleSound);
for (const kind of ["pointerdown", "keydown"]) {
  window.addEventListener(kind, (event) => { if (!event.target.closest?.("#sound")) bell.wake(); });
}
$("rang").addEventListener("click", heard);
$("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the room
  $("feed").focus();
});
window.addEventListener("blur", () => { isAway = true; });
window.addEventListener("focus", () => {
  if (isAway) heard();
  isAway = false;
});
// A page that a browser keeps for its back button must not keep its connection: there are only six.
window.addEventListener("pagehide", () => stream?.close());
window.addEventListener("pageshow", (event) => { if (event.persisted) connect(last); });
window.addEventListener("hashchange", () => {
  if (location.hash.startsWith("#room-")) openFromAddress(true);
});
window.addEventListener("keydown", (event) => {
  if (event.altKey && event.key === "ArrowDown") { event.preventDefault(); neighbour(1); }
  if (event.altKey && event.key === "ArrowUp") { event.preventDefault(); neighbour(-1); }
});
bell.restore();
restart();
