// A message as elements. Its HTML was cleaned by the server; here it goes through an inert
// template, where pictures become links, so that nothing is ever loaded from elsewhere.

const STYLES = ["font-weight", "color", "text-decoration"];
const HARMLESS = /^[#\w(),.%\s-]{1,40}$/;
const URLS = /https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]]/g;
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

export function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", `icon i-${name}`);
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export function dayOf(message) {
  return day.format(message.at * 1000);
}

export function headline(message) {
  return message.text.trim().split("\n")[0].slice(0, 160);
}

export function render(message) {
  const article = element("article", `message c-${message.color}${message.notify ? " rings" : ""}`);
  article.id = `m-${message.uuid}`;
  article.append(icon(message.color), sender(message), content(message), margin(message));
  const item = element("li", "", article);
  item.dataset.id = message.id;
  item.dataset.day = dayOf(message);
  item.dataset.sender = message.sender;
  return item;
}

function sender(message) {
  const line = element("p", "from", element("span", "visually-hidden", `${message.color}, from `));
  line.append(element("b", "sender", message.sender || "Notification"));
  line.title = message.sender;
  return line;
}

function content(message) {
  const box = element("div", "content");
  if (message.attach_to) box.append(attachment(message));
  box.append(body(message));
  if (message.card) box.append(card(message.card));
  return box;
}

function margin(message) {
  const line = element("p", "margin");
  if (message.notify) line.append(element("span", "mark", icon("bell"), element("span", "", "rings")));
  const time = element("time", "", clock.format(message.at * 1000));
  time.dateTime = new Date(message.at * 1000).toISOString();
  const link = element("a", "permalink", time, element("span", "visually-hidden", ", link to this message"));
  link.href = address(message.room, message.uuid);
  link.title = `Received ${full.format(message.at * 1000)}. Link to this message`;
  line.append(link);
  return line;
}

function address(room, uuid) {
  return `#room-${room}/${encodeURIComponent(uuid)}`;
}

function attachment(message) {
  const link = element("a", "attached", "↳ to an earlier message");
  link.href = address(message.room, message.attach_to);
  return link;
}

function body(message) {
  const text = element("div", "body");
  if (message.html === null) {
    text.classList.add("plain");
    text.append(...linked(message.text));
  } else {
    text.append(harmless(message.html));
  }
  return text;
}

function linked(text) {
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(URLS)) {
    parts.push(text.slice(end, found.index), outward(found[0], found[0]));
    end = found.index + found[0].length;
  }
  return [...parts, text.slice(end)];
}

function outward(url, text) {
  const link = element("a", "", text);
  link.href = url;
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  return link;
}

function harmless(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  for (const picture of template.content.querySelectorAll("img")) {
    const text = `[picture${picture.alt ? `: ${picture.alt}` : ""}]`;
    const source = picture.getAttribute("src");
    const isLinked = source && !picture.closest("a");
    picture.replaceWith(isLinked ? outward(source, text) : text);
  }
  for (const link of template.content.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer";
  }
  const content = document.importNode(template.content, true);
  for (const span of content.querySelectorAll("[data-style]")) paint(span, span.dataset.style);
  return content;
}

function paint(span, style) {
  for (const rule of style.split(";")) {
    const [name, value] = rule.split(":", 2).map((part) => part.trim());
    if (STYLES.includes(name) && value && HARMLESS.test(value)) span.style.setProperty(name, value);
  }
}

function card(card) {
  const box = element("div", "card");
  const title = element("p", "card-title");
  title.append(card.url ? outward(card.url, card.title) : card.title);
  box.append(title);
  if (card.activity_html) box.append(element("p", "card-text", harmless(card.activity_html)));
  if (card.description_html) box.append(element("p", "card-text", harmless(card.description_html)));
  else if (card.description) box.append(element("p", "card-text", card.description));
  if (card.attributes.length) box.append(facts(card.attributes));
  return box;
}

function facts(attributes) {
  const list = element("dl", "facts");
  for (const { label, value, url, style } of attributes) {
    const shown = element("span", style ? `lozenge ${style}` : "");
    shown.append(url ? outward(url, value) : value);
    list.append(element("div", "", element("dt", "", label || "—"), element("dd", "", shown)));
  }
  return list;
}
