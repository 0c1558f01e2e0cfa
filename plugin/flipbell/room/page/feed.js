// The messages of one room: the newest ones, or those around a message that a link leads to.

import { dayOf, element, render } from "./message.js";

const KEPT = 400; // messages on the page before old ones are let go
const NEAR = 120; // pixels from the end that still count as the end
const AGAIN = 2000; // milliseconds until a room that could not be read is asked for again
const $ = (id) => document.getElementById(id);

export async function ask(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw Object.assign(new Error(`${path}: ${answer.status}`), { status: answer.status });
  return answer.json();
}

export class Feed {
  #room = null;
  #turn = 0; // counts, so that a slow answer does not overwrite a later one
  #waiting = null; // what came while a room was being opened
  #hasOlder = false;
  #hasNewer = false; // whether a link has led to messages that are not the newest
  #isLoading = false;
  #follows = true; // whether the newest message is in sight, and stays there
  #unseen = 0;
  #view = $("feed");
  #list = $("messages");

  constructor() {
    $("older").addEventListener("click", () => this.#showOlder());
    $("later").addEventListener("click", () => this.#showNewer());
    $("newer").addEventListener("click", () => this.#toNewest());
    this.#view.addEventListener("scroll", () => {
      this.#follows = !this.#hasNewer && this.#isAtEnd();
      if (this.#follows) this.#seen();
    });
    new ResizeObserver(() => { if (this.#follows) this.#toEnd(); }).observe(this.#view);
    const reached = (seen) => seen.some((entry) => entry.isIntersecting) && this.#view.scrollTop > 0;
    const observe = (button, load) => new IntersectionObserver(
      (seen) => { if (reached(seen)) load(); }, { root: this.#view, rootMargin: "200px" },
    ).observe(button);
    observe($("older"), () => this.#showOlder());
    observe($("later"), () => this.#showNewer());
  }

  get room() {
    return this.#room;
  }

  // Shows a room's newest messages, or the message of a link among those around it.
  async open(room, uuid = null) {
    const turn = ++this.#turn;
    this.#room = room;
    this.#waiting = [];
    this.#tell("");
    try {
      const page = await this.#page(room, uuid);
      if (turn !== this.#turn) return;
      const came = this.#waiting;
      this.#waiting = null;
      this.#fill(page);
      came.forEach((message) => this.add(message));
      if (!uuid || !this.mark(uuid)) this.#toEnd();
    } catch (error) {
      setTimeout(() => { if (turn === this.#turn) this.open(room, uuid); }, AGAIN);
    }
  }

  async #page(room, uuid) {
    const messages = `api/rooms/${room}/messages`;
    if (!uuid) return ask(messages);
    try {
      return await ask(`${messages}?around=${encodeURIComponent(uuid)}`);
    } catch (error) {
      if (error.status !== 404) throw error;
      this.#tell("The linked message is not in this room, or is no longer kept.");
      return ask(messages);
    }
  }

  #fill(page) {
    this.#list.replaceChildren(...withDays(page.messages));
    this.#hasOlder = page.older;
    this.#hasNewer = page.newer;
    this.#unseen = 0;
    this.#settle();
  }

  // Marks a message and brings it into view; returns whether it is on the page.
  mark(uuid) {
    const article = document.getElementById(`m-${uuid}`);
    if (!article) return false;
    this.#list.querySelector(".linked")?.classList.remove("linked");
    article.classList.add("linked");
    article.tabIndex = -1;
    article.focus({ preventScroll: true });
    const [seen, view] = [article.getBoundingClientRect(), this.#view.getBoundingClientRect()];
    this.#view.scrollTop += seen.top - view.top - Math.max(0, (view.height - seen.height) / 2);
    this.#follows = !this.#hasNewer && this.#isAtEnd();
    return true;
  }

  add(message) {
    if (this.#waiting) return void this.#waiting.push(message);
    if (!this.#hasNewer && !this.#append([message])) return;
    if (this.#follows) return this.#toEnd();
    this.#unseen += 1;
    this.#settle();
  }

  // Adds what is newer than the last message shown; returns whether there was any.
  #append(messages) {
    const last = this.#list.lastElementChild;
    const added = messages.filter((message) => message.id > Number(last?.dataset.id ?? 0));
    const items = withDays(added, last?.dataset.day ?? "");
    if (added.length === 1) items.at(-1).classList.add("new");
    this.#list.append(...items);
    if (this.#follows) this.#letGo();
    this.#settle();
    return added.length > 0;
  }

  #letGo() {
    while (this.#list.querySelectorAll("article").length > KEPT) {
      this.#list.firstElementChild.remove();
      this.#hasOlder = true;
    }
  }

  #settle() {
    group(this.#list);
    $("older").hidden = !this.#hasOlder;
    $("later").hidden = !this.#hasNewer;
    $("empty").hidden = this.#list.childElementCount > 0;
    const count = this.#list.querySelectorAll("article").length;
    const hasMore = this.#hasOlder || this.#hasNewer;
    $("summary").textContent = count ? `${count}${hasMore ? "+ messages" : count === 1 ? " message" : " messages"}` : "";
    $("newer").hidden = !this.#hasNewer && this.#unseen === 0;
    $("newer").textContent = this.#unseen ? `${this.#unseen} new ↓` : "Newest ↓";
  }

  #isAtEnd() {
    return this.#view.scrollHeight - this.#view.scrollTop - this.#view.clientHeight < NEAR;
  }

  #seen() {
    this.#unseen = 0;
    $("newer").hidden = true;
  }

  #toEnd() {
    if (this.#hasNewer) return;
    this.#follows = true;
    this.#view.scrollTop = this.#view.scrollHeight;
    this.#seen();
  }

  #toNewest() {
    history.replaceState(null, "", `#room-${this.#room}`);
    if (this.#hasNewer) this.open(this.#room);
    else this.#toEnd();
  }

  async #showOlder() {
    const first = this.#list.querySelector("li[data-id]");
    if (!this.#hasOlder || !first) return;
    await this.#load(`before=${first.dataset.id}`, (page) => {
      const height = this.#view.scrollHeight;
      const heading = this.#list.querySelector("li.day");
      const items = withDays(page.messages);
      if (page.messages.length && dayOf(page.messages.at(-1)) === first.dataset.day) heading?.remove();
      this.#list.prepend(...items);
      this.#hasOlder = page.older;
      this.#settle();
      this.#view.scrollTop += this.#view.scrollHeight - height;
    });
  }

  async #showNewer() {
    const last = this.#list.lastElementChild;
    if (!this.#hasNewer || !last) return;
    await this.#load(`after=${last.dataset.id}`, (page) => {
      this.#hasNewer = page.newer;
      if (!page.newer) this.#unseen = 0;
      this.#append(page.messages);
    });
  }

  async #load(query, show) {
    if (this.#isLoading) return;
    this.#isLoading = true;
    const turn = this.#turn;
    try {
      const page = await ask(`api/rooms/${this.#room}/messages?${query}`);
      if (turn === this.#turn) show(page);
    } catch {
      // the button is still there
    } finally {
      this.#isLoading = false;
    }
  }

  #tell(text) {
    $("notice").textContent = text;
    $("notice").hidden = !text;
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

// Leaves out a sender that the message before has, too; only for the eye.
function group(list) {
  let before = null;
  for (const item of list.children) {
    item.classList.toggle("same", before !== null && item.dataset.sender === before);
    before = item.dataset.sender ?? null;
  }
}
