// One picture, one category, one list of clicks; the server holds nothing of it from one request to the next.

import {decode, draw, measure, png} from "/masks.js";

const $ = (id) => document.getElementById(id);
const PAUSE = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 450;

let server = null;       // what /categories says
let file = null;         // the picture as it is sent
let clicks = [];         // as the server answers them; `by` is "agent" or "you"
let shown = -1;          // the click whose mask is shown; -1: none
let answered = "";       // the category that these clicks are for
let busy = false;
let retry = null;        // what "Try again" does
let cursor = {x: 0, y: 0};

// ---------------------------------------------------------------- what is asked of the server

/** Have clicks placed, and let the agent add to them up to `budget` clicks in all; 0: as many as in training. */
async function ask(category, given, budget) {
  if (!category) return problem("Name a category first.");
  const sent = file;
  retry = () => ask(category, given, budget);
  working(true, given.length && given.length === budget ? "Segmenting…" : "The agent clicks…");
  try {
    const answer = await post(sent, category, given, budget);
    const {naturalWidth: width, naturalHeight: height} = $("image");
    if (answer.width !== width || answer.height !== height) {
      throw new Error(`the server sees a picture of ${answer.width}×${answer.height} pixels; save it anew as PNG`);
    }
    await reveal(answer, given);
  } catch (error) {
    problem(error.message, error.again);
  } finally {
    working(false);
  }
}

async function post(image, category, given, budget) {
  const form = new FormData();
  form.append("image", image);
  form.append("category", category);
  if (given.length) form.append("clicks", JSON.stringify({clicks: given.map(({x, y, positive}) => ({x, y, positive}))}));
  if (budget) form.append("budget", budget);
  const response = await fetch("/segment", {method: "POST", body: form}).catch(() => {
    throw Object.assign(new Error("The server does not answer. Is it still running?"), {again: true});
  });
  const body = await response.json().catch(() => ({detail: `the server failed (${response.status})`}));
  if (response.ok) return body;
  const wait = response.headers.get("Retry-After");
  const words = {503: "The server is busy", 429: "Too many requests"}[response.status];
  const error = new Error(words ? `${words}: try again in ${wait ?? "a few"} seconds.` : body.detail);
  error.again = Boolean(words) || response.status >= 500 || response.status === 408;
  throw error;
}

/** Show the clicks that the agent added, one after another, and then the answer. */
async function reveal(answer, given) {
  const all = answer.clicks.map((click, at) => ({...click, by: given[at]?.by ?? "agent"}));
  const added = all.length - given.length;
  answered = answer.category;
  for (let count = given.length + 1; count < all.length && PAUSE; count++) {
    show(all.slice(0, count), count - 1);
    await new Promise((done) => setTimeout(done, PAUSE));
  }
  // A person wants to see what the last click did; of the agent's clicks the run's own rule picks the answer.
  const best = all.findLastIndex((click) => click.segmentation.counts === answer.segmentation.counts);
  show(all, added ? best : all.length - 1);
  const end = answer.stopped ? "The agent stopped by itself. " : "";
  say(all.length ? `${end}Predicted IoU ${all[shown].predicted_iou.toFixed(2)} after click ${shown + 1} of ${all.length}.`
    : "The agent placed no click: the mask is empty.");
}

const chosen = () => (server?.any_name ? $("any").value : $("known").value).trim();

function place(x, y, positive) {
  if (!file || busy || full()) return;
  const given = answered === chosen() ? clicks : [];  // Clicks for one category are none for another.
  ask(chosen(), [...given, {x, y, positive, by: "you"}], given.length + 1);
}

function remove(index) {
  if (busy) return;
  const left = clicks.filter((_, at) => at !== index);
  if (left.length) return ask(answered, left, left.length);
  forget();
  say("No clicks are left.");
}

function further() {
  const more = Math.max(1, Math.floor($("more").valueAsNumber) || 1);
  if (!full()) ask(answered, clicks, Math.min(clicks.length + more, server.max_clicks));
}

function full() {
  if (clicks.length < server.max_clicks) return false;
  problem(`There are ${clicks.length} clicks, and no more are allowed; remove one first.`);
  return true;
}

// ---------------------------------------------------------------- what is shown

function show(list, index) {
  const fresh = list.length > clicks.length ? list.length - 1 : -1;
  [clicks, shown] = [list, index];
  draw(index < 0 ? null : decode(clicks[index].segmentation), $("fill"), $("edge"));
  $("markers").replaceChildren(...clicks.map((click, at) => marker(click, at, at === fresh)));
  $("clicks").replaceChildren(...clicks.map(entry));
  refresh();
}

function marker(click, index, fresh) {
  const button = document.createElement("button");
  button.className = `marker ${click.positive ? "" : "negative"} ${click.by} ${fresh ? "fresh" : ""}`;
  button.textContent = click.positive ? "+" : "−";
  button.title = `Remove click ${index + 1}`;
  button.ariaLabel = button.title;
  button.tabIndex = -1;  // The list has the same for the keyboard.
  Object.assign(button.style, at(click));
  button.onclick = (event) => (event.stopPropagation(), remove(index));
  return button;
}

function entry(click, index) {
  const line = document.createElement("li");
  line.className = click.positive ? "" : "negative";
  const look = document.createElement("button");
  look.className = "show";
  look.ariaPressed = String(index === shown);
  look.title = "Show the mask that this click gave";
  const words = [["sign", click.positive ? "+" : "−"], ["who", click.by], ["place", `${click.x}, ${click.y}`],
    ["iou", click.predicted_iou.toFixed(2)]];
  look.append(...words.map(([name, text]) => {
    const part = document.createElement("span");
    [part.className, part.textContent] = [name, text];
    return part;
  }));
  look.onclick = () => {
    show(clicks, index);
    $("clicks").children[index].firstChild.focus();
    say(`Predicted IoU ${click.predicted_iou.toFixed(2)} after click ${index + 1} of ${clicks.length}.`);
  };
  const out = document.createElement("button");
  [out.className, out.textContent, out.ariaLabel] = ["remove", "×", `Remove click ${index + 1}`];
  out.onclick = () => remove(index);
  line.append(look, out);
  return line;
}

const at = ({x, y}) => ({
  left: `${100 * (x + .5) / $("image").naturalWidth}%`,
  top: `${100 * (y + .5) / $("image").naturalHeight}%`,
});

function forget() {
  answered = "";
  show([], -1);
}

function refresh() {
  document.body.classList.toggle("busy", busy);
  $("segment").disabled = !file || busy;
  $("further").disabled = !clicks.length || busy || answered !== chosen();
  $("clear").disabled = !clicks.length || busy;
  for (const id of ["png", "coco", "json"]) $(id).disabled = shown < 0 || busy;
  for (const button of document.querySelectorAll(".clicks button, .marker")) button.disabled = busy;
  $("none").hidden = clicks.length > 0;
}

function working(now, words) {
  busy = now;
  if (now) problem("");
  if (words) say(words);
  refresh();
}

function say(words) {
  $("status").textContent = words;
}

function problem(words, again = false) {
  $("problem").hidden = !words;
  $("why").textContent = words;
  $("again").hidden = !again;
  if (words) say("");
}

// ---------------------------------------------------------------- the picture

async function open(picked) {
  if (!picked || busy) return;
  if (!server) return problem("The server does not answer. Is it still running?", true);
  problem("");
  if (server && picked.size > server.max_upload_bytes) {
    return problem(`The file has ${megas(picked.size)} MB; at most ${megas(server.max_upload_bytes)} MB can be sent.`);
  }
  const image = $("image"), address = URL.createObjectURL(picked), before = image.src;
  image.src = address;
  try {
    await image.decode();
    const pixels = image.naturalWidth * image.naturalHeight;
    if (server && pixels > server.max_pixels) {
      throw new Error(`The picture has ${megas(pixels)} megapixels; at most ${megas(server.max_pixels)} can be sent.`);
    }
  } catch (error) {
    image.src = before;
    URL.revokeObjectURL(address);
    return problem(error.name === "EncodingError" ? `${picked.name} is no picture that can be shown.` : error.message);
  }
  if (before) URL.revokeObjectURL(before);
  file = picked;
  image.alt = picked.name;
  cursor = {x: image.naturalWidth >> 1, y: image.naturalHeight >> 1};
  $("frame").style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
  $("name").textContent = `${picked.name}, ${image.naturalWidth}×${image.naturalHeight}`;
  $("drop").hidden = true;
  $("frame").hidden = $("tools").hidden = $("keys").hidden = false;
  forget();
  say("Name a category and press Segment, or click on the picture.");
}

const megas = (number) => (number / 1e6).toFixed(1);

function pointed(event) {
  const box = $("frame").getBoundingClientRect(), {naturalWidth, naturalHeight} = $("image");
  const within = (share, side) => Math.min(side - 1, Math.max(0, Math.floor(share * side)));
  return [within((event.clientX - box.left) / box.width, naturalWidth),
    within((event.clientY - box.top) / box.height, naturalHeight)];
}

const positive = () => document.querySelector("input[name=label]:checked").value === "positive";

function key(event) {
  if (event.target !== $("frame") || event.ctrlKey || event.metaKey) return;
  const step = Math.max(1, Math.round($("image").naturalWidth / (event.shiftKey ? 16 : 100)));
  const moves = {ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step]};
  if (event.key in moves) {
    const {naturalWidth, naturalHeight} = $("image"), [x, y] = moves[event.key];
    cursor = {x: Math.min(naturalWidth - 1, Math.max(0, cursor.x + x)),
      y: Math.min(naturalHeight - 1, Math.max(0, cursor.y + y))};
    Object.assign($("cursor").style, at(cursor));
    $("cursor").hidden = false;
  } else if (event.key === "+" || event.key === "-") place(cursor.x, cursor.y, event.key === "+");
  else if (event.key === "Enter" || event.key === " ") place(cursor.x, cursor.y, positive());
  else if (event.key === "Backspace" && clicks.length) remove(clicks.length - 1);
  else return;
  event.preventDefault();
}

// ---------------------------------------------------------------- files to take away

function save(content, suffix) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = `${file.name.replace(/\.[^.]*$/, "")}_${answered.replace(/[^\p{L}\p{N}_-]+/gu, "-")}_${suffix}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const asJson = (value) => new Blob([JSON.stringify(value, null, 1) + "\n"], {type: "application/json"});
const pictureSize = () => ({width: $("image").naturalWidth, height: $("image").naturalHeight});

function coco() {
  const {segmentation, predicted_iou: score} = clicks[shown];
  return {
    info: {description: "made with sb3-alignsam serve; score is predicted IoU"},
    licenses: [],
    images: [{id: 1, file_name: file.name, ...pictureSize()}],
    categories: [{id: 1, name: answered, supercategory: ""}],
    annotations: [{id: 1, image_id: 1, category_id: 1, segmentation, ...measure(decode(segmentation)), iscrowd: 0, score}],
  };
}

function clicksFile() {
  const list = clicks.slice(0, shown + 1).map(({segmentation, ...click}) => click);
  return {image: file.name, ...pictureSize(), category: answered, clicks: list};
}

// ---------------------------------------------------------------- start

async function start() {
  try {
    server = await (await fetch("/categories")).json();
  } catch {
    problem("The server does not answer. Is it still running?", true);
    retry = start;
    return;
  }
  problem("");
  const option = (name) => Object.assign(document.createElement("option"), {value: name, textContent: name});
  $(server.any_name ? "names" : "known").replaceChildren(...server.categories.map(option));
  $("any").hidden = !server.any_name;
  $("known").hidden = server.any_name;
  if (server.any_name) $("any").value = server.categories[0];
  $("kinds").textContent += `, up to ${megas(server.max_upload_bytes)} MB and ${megas(server.max_pixels)} megapixels`;
}

$("file").onchange = (event) => open(event.target.files[0]).then(() => (event.target.value = ""));
$("segment").onclick = () => ask(chosen(), [], 0);
$("further").onclick = further;
$("clear").onclick = () => (forget(), say("No clicks are left."));
$("again").onclick = () => retry?.();
$("any").oninput = $("known").onchange = refresh;
$("any").onkeydown = (event) => event.key === "Enter" && $("segment").click();
$("opacity").oninput = (event) => {
  $("fill").style.opacity = event.target.value / 100;
  $("percent").textContent = `${event.target.value} %`;
};
$("png").onclick = async () => save(await png(decode(clicks[shown].segmentation)), "mask.png");
$("coco").onclick = () => save(asJson(coco()), "coco.json");
$("json").onclick = () => save(asJson(clicksFile()), "clicks.json");
$("frame").onclick = (event) => place(...pointed(event), event.altKey ? false : positive());
$("frame").oncontextmenu = (event) => (event.preventDefault(), place(...pointed(event), false));
$("frame").onkeydown = key;
$("frame").onblur = () => ($("cursor").hidden = true);
document.ondragover = (event) => (event.preventDefault(), document.body.classList.add("dragging"));
document.ondragleave = (event) => event.relatedTarget || document.body.classList.remove("dragging");
document.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  open(event.dataTransfer.files[0]);
};
document.onpaste = (event) => open(event.clipboardData.files[0]);
$("fill").style.opacity = $("opacity").value / 100;
start();
