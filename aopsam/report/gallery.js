// The gallery: photos filtered, ordered and paged; one photo with its masks. Data come as calls of `aopsam.…` with JSON.
"use strict";
const aopsam = (() => {
  const PAGE = 60;
  const byId = (id) => document.getElementById(id);
  const state = { name: "", order: "worst", page: 0, picks: new Map(), ranges: new Map(), photo: null };
  const index = { names: [], keys: [], sizes: [], notes: [], values: [] };
  const photos = new Map(); // key -> what its script told
  let told = null; // contents
  let shown = []; // rows of the index that pass the filters, in order
  let loaded = 0; // chunks

  // ---- making elements: names and messages only ever become text
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "onclick") element.addEventListener("click", value);
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }
  const number = (value, digits = 0) =>
    value === null || value === undefined
      ? "–"
      : value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const square = (colour) => {
    const mark = make("i");
    mark.style.background = colour;
    return mark;
  };

  // ---- the index
  function contents(given) {
    told = given;
    index.values = told.columns.map(() => []);
    readAddress();
    if (!told.chunks.length) choose();
  }

  function rows(first, names, keys, sizes, notes, values) {
    names.forEach((name, place) => {
      index.names[first + place] = name;
      index.keys[first + place] = keys[place];
      index.sizes[first + place] = sizes[place];
      index.notes[first + place] = notes[place];
      values.forEach((column, which) => (index.values[which][first + place] = column[place]));
    });
    loaded += 1;
    if (loaded === 1) readRest();
    choose();
  }

  function readRest() {
    told.chunks.slice(1).forEach((name) => {
      const script = make("script", { src: "data/" + name });
      script.async = false;
      document.body.append(script);
    });
  }

  const complete = () => loaded >= told.chunks.length;
  const isPlain = () => !state.name && !state.picks.size && !state.ranges.size && state.order === "worst";

  function passes(row) {
    if (index.names[row] === undefined) return false; // of a chunk that could not be read
    for (const [column, picked] of state.picks) if (!picked.has(index.values[column][row])) return false;
    for (const [column, [low, high]] of state.ranges) {
      const value = index.values[column][row];
      if (value === null || value < low || value > high) return false;
    }
    return !state.name || index.names[row].toLowerCase().includes(state.name);
  }

  function choose() {
    shown = [];
    for (let row = 0; row < index.names.length; row++) if (passes(row)) shown.push(row);
    const [column, way] = state.order.split("-");
    if (state.order === "best") shown.sort((a, b) => !index.keys[a] - !index.keys[b] || b - a); // nothing to see: last
    else if (state.order === "name") shown.sort((a, b) => (index.names[a] < index.names[b] ? -1 : index.names[a] > index.names[b] ? 1 : a - b));
    else if (way) {
      const values = index.values[numberColumns()[column]];
      const sign = way === "up" ? 1 : -1; // what has no number comes last
      shown.sort((a, b) => (values[a] === null) - (values[b] === null) || sign * (values[a] - values[b]) || a - b);
    }
    // Chunks come in the order of the page: as long as nothing is chosen, further ones change no picture.
    if (loaded > 1 && isPlain() && shownRows.length === PAGE && state.photo === null) drawCount();
    else draw();
  }
  const numberColumns = () => told.columns.flatMap((column, place) => (column.choices ? [] : [place]));

  // ---- the page of pictures
  let shownRows = [];

  function draw() {
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    state.page = complete() ? Math.min(state.page, pages - 1) : state.page;
    const rows_ = shown.slice(state.page * PAGE, (state.page + 1) * PAGE);
    if (!rows_.length) {
      const why = !complete() ? "Reading the index …" : told.rows ? "No photo passes these filters." : "There are no photos.";
      byId("photos").replaceChildren(make("p", { class: "none" }, why));
    } else if (rows_.join() !== shownRows.join()) byId("photos").replaceChildren(...rows_.map(card));
    shownRows = rows_;
    drawCount();
    if (state.photo !== null && index.names[state.photo] !== undefined) open(state.photo);
    else if (state.photo === null && byId("viewer").open) closeViewer();
  }

  function drawCount() {
    const pages = Math.max(1, Math.ceil((isPlain() ? told.rows : shown.length) / PAGE));
    const all = number(told.rows) + (told.rows === 1 ? " photo" : " photos");
    byId("count").textContent = isPlain() ? all : `${number(shown.length)} of ${all}${complete() ? "" : " …"}`;
    byId("page").textContent = `page ${number(state.page + 1)} of ${number(pages)}`;
    for (const id of ["back", "back-below"]) byId(id).disabled = state.page === 0;
    for (const id of ["next", "next-below"]) byId(id).disabled = state.page >= pages - 1;
  }

  const place = (row, kind) => `photos/${index.keys[row].slice(0, 2)}/${index.keys[row]}${kind}`;

  function captions(row) {
    const parts = [];
    told.columns.forEach((column, which) => {
      const value = index.values[which][row];
      if (column.caption && value !== null) parts.push(column.caption.replace("#", number(value, column.digits)));
    });
    return parts.join(" · ");
  }

  const words = (row) => told.columns.flatMap((column, which) => (column.choices ? [column.choices[index.values[which][row]].replaceAll("_", " ")] : []));
  const why = (row) => make("span", { class: "why" }, make("b", {}, words(row)[1]), index.notes[row]);

  function card(row, position) {
    const name = index.names[row];
    const captioned = (told_) => [make("span", { class: "name", title: name }, name), make("span", { class: "told" }, told_)];
    if (!index.keys[row]) {
      const picture = make("span", { class: "picture" }, why(row));
      return make("div", { class: "photo", tabindex: "0", "data-row": row }, picture, ...captioned(words(row)[0]));
    }
    const image = make("img", { alt: "", decoding: "async", loading: position < 12 ? "eager" : "lazy", src: place(row, ".small.jpg") });
    const about = captions(row) + (index.notes[row] ? ` · ${index.notes[row]}` : "");
    return make("a", { class: "photo", href: address(row), "data-row": row }, make("span", { class: "picture" }, image), ...captioned(about));
  }

  // ---- the address: what is filtered, and which photo is open
  function address(photo = state.photo) {
    const parts = new URLSearchParams();
    if (state.name) parts.set("name", state.name);
    if (state.order !== "worst") parts.set("order", state.order);
    for (const [column, picked] of state.picks) parts.set(`is${column}`, [...picked].join("."));
    for (const [column, [low, high]] of state.ranges) parts.set(`in${column}`, `${Number.isFinite(low) ? low : ""}_${Number.isFinite(high) ? high : ""}`);
    if (state.page) parts.set("page", state.page + 1);
    if (photo !== null) parts.set("photo", photo);
    return "#" + parts;
  }

  function readAddress() {
    const parts = new URLSearchParams(location.hash.slice(1));
    state.name = (parts.get("name") || "").toLowerCase();
    const orders = [...byId("order").options].map((option) => option.value);
    state.order = orders.includes(parts.get("order")) ? parts.get("order") : "worst";
    state.page = Math.max(0, (parseInt(parts.get("page"), 10) || 1) - 1);
    state.photo = /^\d+$/.test(parts.get("photo") || "") ? Number(parts.get("photo")) : null;
    state.picks.clear();
    state.ranges.clear();
    told.columns.forEach((column, which) => {
      const picked = (parts.get(`is${which}`) || "").split(".").filter((word) => /^\d+$/.test(word)).map(Number);
      if (column.choices && picked.length) state.picks.set(which, new Set(picked));
      const ends = (parts.get(`in${which}`) || "").split("_");
      if (!column.choices && ends.length === 2) setRange(which, ...ends);
    });
    byId("name").value = state.name;
    byId("order").value = state.order;
    for (const input of byId("rest").querySelectorAll("input")) {
      const column = Number(input.dataset.column);
      if (input.type === "checkbox") input.checked = !!state.picks.get(column)?.has(Number(input.dataset.value));
      else {
        const end = (state.ranges.get(column) || [NaN, NaN])[Number(input.dataset.end)];
        input.value = Number.isFinite(end) ? end : "";
      }
    }
  }

  function setRange(column, low, high) {
    const ends = [low === "" ? -Infinity : Number(low), high === "" ? Infinity : Number(high)];
    if (ends.some(Number.isNaN) || (ends[0] === -Infinity && ends[1] === Infinity)) state.ranges.delete(column);
    else state.ranges.set(column, ends);
  }

  function filtered() {
    state.name = byId("name").value.trim().toLowerCase();
    state.order = byId("order").value;
    state.page = 0;
    state.picks.clear();
    for (const input of byId("rest").querySelectorAll("input:checked")) {
      const column = Number(input.dataset.column);
      if (!state.picks.has(column)) state.picks.set(column, new Set());
      state.picks.get(column).add(Number(input.dataset.value));
    }
    for (const low of byId("rest").querySelectorAll('input[data-end="0"]')) {
      const column = Number(low.dataset.column);
      setRange(column, low.value, byId("rest").querySelector(`input[data-column="${column}"][data-end="1"]`).value);
    }
    history.replaceState(null, "", address());
    choose();
  }

  function turn(by) {
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    const page = Math.min(pages - 1, Math.max(0, state.page + by));
    if (page === state.page) return false;
    state.page = page;
    history.replaceState(null, "", address());
    draw();
    scrollTo(0, byId("filters").offsetTop);
    return true;
  }

  // ---- one photo
  const viewer = { row: null, photo: null, sides: [], at: null, masks: true, prompts: true, map: false, round: 0, last: 0 };

  function photo(key, given) {
    photos.set(key, given);
    while (photos.size > 8) photos.delete(photos.keys().next().value); // the least lately read
    if (viewer.row !== null && index.keys[viewer.row] === key) enter(given);
  }

  function read(row) {
    const key = index.keys[row];
    if (!key || photos.has(key)) return photos.get(key);
    const script = make("script", { src: place(row, ".js") });
    script.addEventListener("load", () => script.remove());
    script.addEventListener("error", () => viewer.row === row && say(`${place(row, ".js")} is not there: write the gallery again`));
    document.body.append(script);
    return undefined;
  }

  function open(row) {
    if (viewer.row === row && byId("viewer").open) return;
    Object.assign(viewer, { row, photo: null, sides: [], at: null });
    state.photo = row;
    if (!byId("viewer").open) byId("viewer").showModal();
    const position = shown.indexOf(row);
    byId("title").replaceChildren(index.names[row], make("small", {}, position < 0 ? "" : `${number(position + 1)} of ${number(shown.length)}`));
    byId("title").title = index.names[row];
    byId("before").disabled = position <= 0;
    byId("after").disabled = position < 0 || position >= shown.length - 1;
    stages();
    byId("viewer").classList.add("untraced", "unmapped");
    byId("viewer").classList.toggle("waiting", !!index.keys[row]); // what is told would move when it is there
    if (!index.keys[row]) return;
    const known = read(row);
    if (known) enter(known);
    [1, -1].forEach((by) => shown[position + by] !== undefined && position >= 0 && read(shown[position + by]));
  }

  function go(by) {
    const row = shown[shown.indexOf(state.photo) + by];
    if (row === undefined || shown.indexOf(state.photo) < 0) return;
    state.page = Math.floor(shown.indexOf(row) / PAGE);
    state.photo = row;
    history.replaceState(null, "", address());
    draw();
  }

  function closeViewer() {
    const row = viewer.row;
    viewer.row = state.photo = null;
    history.replaceState(null, "", address());
    if (byId("viewer").open) byId("viewer").close();
    byId("photos").querySelector(`[data-row="${row}"]`)?.focus({ preventScroll: false });
  }

  function say(text) {
    byId("viewer").classList.remove("waiting");
    byId("about").replaceChildren(make("p", { class: "soft" }, text));
    byId("mask").replaceChildren();
    byId("list").replaceChildren();
    byId("listed").textContent = "";
  }

  /** Make the stages at the size of the photo, before its masks are there: nothing moves later. */
  function stages() {
    const [width, height] = index.sizes[viewer.row];
    const two = told.sides.length > 1;
    byId("stages").classList.toggle("two-sides", two);
    byId("stages").classList.toggle("tall", height > 1.2 * width);
    byId("stages").replaceChildren(
      ...(index.keys[viewer.row] ? told.sides : []).map((name, side) => {
        const frame = make("div", { class: "frame" });
        frame.style.position = "relative";
        const stage = make("figure", { class: "stage" }, frame);
        stage.style.setProperty("--ratio", String(width / height));
        if (two) stage.append(make("figcaption", {}, square(["#f97316", "#14b8a6"][side]), name));
        return stage;
      })
    );
    byId("viewer").querySelector("aside").hidden = !index.keys[viewer.row];
    if (!index.keys[viewer.row]) byId("stages").append(why(viewer.row));
  }

  function enter(given) {
    viewer.photo = given;
    byId("viewer").classList.remove("waiting");
    const [width, height] = given.shown;
    viewer.sides = given.sides.map((masks, side) => {
      const frame = byId("stages").children[side].firstChild;
      const all = make("canvas", { class: "all", width, height });
      const pointed = make("canvas", { width, height });
      const picture = given.photo ? [make("img", { alt: index.names[viewer.row], src: place(viewer.row, ".jpg") })] : [];
      frame.replaceChildren(...picture, ...maps(given), all, pointed);
      frame.onpointermove = (event) => event.pointerType === "mouse" && point(side, maskAt(side, event, frame));
      frame.onpointerleave = (event) => event.pointerType === "mouse" && !viewer.kept && point(side, null);
      frame.onclick = (event) => {
        const found = masksAt(side, event, frame);
        const same = viewer.at && viewer.at[0] === side && viewer.kept;
        viewer.kept = found.length > 0;
        point(side, found.length ? found[same ? (found.indexOf(viewer.at[1]) + 1) % found.length : 0] : null);
      };
      return { all, pointed, masks: masks.map((mask) => ({ ...mask, ...decode(mask.counts), edge: null })) };
    });
    viewer.kept = false;
    about();
    trace(given.trace);
    redraw();
  }

  // ---- how the photo was prompted, where that is told
  /** Make the pictures of the confidence maps: of the whole photo, or of its parts where only these have some. */
  function maps({ trace: traced, size: [width, height] }) {
    const all = traced ? traced.maps : [];
    const whole = all.filter(([[, , w, h]]) => w >= width && h >= height);
    return (whole.length ? whole : all).map(([[x, y, w, h], source]) => {
      const picture = make("img", { alt: "", class: "map", src: source });
      picture.hidden = !viewer.map;
      const part = { left: x / width, top: y / height, width: w / width, height: h / height };
      for (const [name, share] of Object.entries(part)) picture.style[name] = `${100 * share}%`;
      return picture;
    });
  }

  function trace(traced) {
    byId("viewer").classList.toggle("untraced", !traced);
    byId("viewer").classList.toggle("unmapped", !traced?.maps.length);
    if (!traced) return;
    viewer.last = traced.prompts.reduce((last, [, round]) => Math.max(last, round), 0);
    viewer.round = viewer.last;
    const rounds = new Map(traced.prompts.map(([at, round]) => [at.join(), round]));
    for (const mask of viewer.sides[0].masks) {
      const at = mask.points && mask.points.length ? mask.points[0] : mask.box || [];
      mask.round = rounds.get(at.join()) ?? viewer.last; // one made of several prompts is there in the end
    }
    byId("round").max = viewer.last;
    byId("fates").replaceChildren(
      ...[["waiting", "waiting"], ["decoded", "decoded"], ...(viewer.last > 1 ? [["now", "of them in this round"]] : []), ...traced.reasons.map((reason) => ["dropped", `dropped: ${reason}`])].map(([fate, text]) => {
        const sample = make("canvas", { width: 32, height: 32 });
        const boxes = traced.prompts.length && traced.prompts[0][0].length === 4;
        mark(sample.getContext("2d"), fate, 16, 16, fate === "decoded" ? 8 : 10, boxes);
        return make("li", {}, sample, make("span", {}, text), make("b"));
      })
    );
  }

  /** Tell what a prompt is in the round that is shown. */
  const fateIn = ([, round, reason]) => (round > viewer.round ? "waiting" : reason >= 0 ? "dropped" : round === viewer.round && viewer.last > 1 ? "now" : "decoded");

  function drawRound() {
    const { prompts, reasons } = viewer.photo.trace;
    const fates = prompts.map(fateIn);
    const count = (fate) => fates.filter((one) => one === fate).length;
    const dropped = reasons.map((_, reason) => prompts.filter((one, at) => one[2] === reason && fates[at] === "dropped").length);
    const counts = [count("waiting"), count("decoded") + count("now"), ...(viewer.last > 1 ? [count("now")] : []), ...dropped];
    [...byId("fates").children].forEach((line, at) => (line.lastChild.textContent = number(counts[at])));
    byId("round-now").textContent = viewer.round ? `Round ${number(viewer.round)} of ${number(viewer.last)}` : `${number(prompts.length)} prompts proposed`;
    byId("round").value = viewer.round;
    byId("round").setAttribute("aria-valuetext", byId("round-now").textContent);
    byId("round-before").disabled = viewer.round === 0;
    byId("round-after").disabled = viewer.round === viewer.last;
  }

  function goRound(round) {
    if (!viewer.photo?.trace) return;
    viewer.round = Math.max(0, Math.min(viewer.last, round));
    redraw();
  }

  /** Draw a prompt by its fate: a ring while it waits, a dot once decoded (larger in its round), a cross if dropped. */
  function mark(pen, fate, x, y, radius, box) {
    pen.beginPath();
    if (fate === "dropped") {
      const arm = 0.85 * radius;
      for (const way of [-1, 1]) pen.moveTo(x - arm, y - way * arm), pen.lineTo(x + arm, y + way * arm);
    } else if (box) pen.rect(x - 0.9 * radius, y - 0.9 * radius, 1.8 * radius, 1.8 * radius);
    else pen.arc(x, y, radius, 0, 7);
    pen.lineCap = "round";
    pen.strokeStyle = "#14171c";
    pen.lineWidth = Math.max(3, radius * 0.95);
    pen.stroke();
    pen.fillStyle = fate === "now" ? "#fde047" : "#fff";
    if (fate === "decoded" || fate === "now") return pen.fill();
    pen.strokeStyle = fate === "dropped" ? "#ff5c4d" : "#fff";
    pen.lineWidth = Math.max(1.4, radius * 0.48);
    pen.stroke();
  }

  function paintFates(pen, radius) {
    const scale = viewer.photo.shown[0] / viewer.photo.size[0];
    const middle = (at) => (at.length === 4 ? [(at[0] + at[2]) / 2, (at[1] + at[3]) / 2] : at);
    for (const fate of ["dropped", "waiting", "decoded", "now"])
      for (const prompt_ of viewer.photo.trace.prompts)
        if (fateIn(prompt_) === fate) {
          const [x, y] = middle(prompt_[0]);
          mark(pen, fate, x * scale, y * scale, fate === "now" ? 1.3 * radius : radius, prompt_[0].length === 4);
        }
  }

  function about() {
    const facts = viewer.photo.facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]);
    const note = index.notes[viewer.row] ? [make("p", { class: "soft" }, index.notes[viewer.row])] : [];
    byId("about").replaceChildren(make("h3", {}, "Photo"), make("dl", {}, ...facts), ...note);
  }

  /** Read COCO's run lengths: where runs of the mask begin and end, in column order. */
  function decode(counts) {
    const lengths = [], starts = [], stops = [];
    for (let i = 0; i < counts.length; ) {
      let value = 0, shift = 0, code;
      do {
        code = counts.charCodeAt(i++) - 48;
        value |= (code & 31) << shift;
        shift += 5;
      } while (code & 32);
      if (code & 16 && shift < 32) value |= -1 << shift;
      if (lengths.length > 2) value += lengths[lengths.length - 2];
      lengths.push(value);
    }
    let end = 0;
    lengths.forEach((length, place_) => {
      if (place_ % 2 && length) starts.push(end), stops.push(end + length);
      end += length;
    });
    return { starts, stops };
  }

  function holds(mask, pixel) {
    let low = 0, high = mask.starts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (mask.starts[middle] <= pixel) low = middle + 1;
      else high = middle;
    }
    return low > 0 && pixel < mask.stops[low - 1];
  }

  function masksAt(side, event, frame) {
    const [width, height] = viewer.photo.shown;
    const box = frame.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * width);
    const y = Math.floor(((event.clientY - box.top) / box.height) * height);
    if (x < 0 || y < 0 || x >= width || y >= height) return [];
    const masks = viewer.sides[side].masks;
    return visible(side).filter((which) => holds(masks[which], x * height + y)).sort((a, b) => masks[a].area - masks[b].area);
  }
  const maskAt = (side, event, frame) => (viewer.kept ? (viewer.at?.[0] === side ? viewer.at[1] : null) : masksAt(side, event, frame)[0] ?? null);

  // ---- which masks are shown
  const scoreOf = (mask) => mask.score ?? mask.iou ?? null;
  const leastArea = () => (Number(byId("least-area").value) ? 10 ** (Number(byId("least-area").value) / 20 - 3) / 10 : 0); // of the photo

  function visible(side) {
    const score = Number(byId("least-score").value);
    const area = leastArea() * viewer.photo.size[0] * viewer.photo.size[1];
    const only = byId("only")?.checked;
    const masks = viewer.sides[side].masks;
    const later = (mask) => viewer.photo.trace && mask.round > viewer.round;
    return masks.flatMap((mask, which) => (later(mask) || (score && !(scoreOf(mask) >= score)) || mask.area < area || (only && mask.partner) ? [] : [which]));
  }

  const ordered = (side) => visible(side).sort((a, b) => (scoreOf(viewer.sides[side].masks[a]) ?? -1) - (scoreOf(viewer.sides[side].masks[b]) ?? -1));

  function redraw() {
    if (!viewer.photo) return;
    const share = leastArea();
    byId("least-score-now").textContent = Number(byId("least-score").value) ? Number(byId("least-score").value).toFixed(2) : "any";
    byId("least-area-now").textContent = share ? `${(100 * share).toPrecision(2)} % of the photo` : "any";
    if (viewer.photo.trace) drawRound();
    viewer.sides.forEach((_, side) => paintAll(side));
    const entries = viewer.sides.flatMap((side, which) => ordered(which).filter((m) => !(which && side.masks[m].partner)).map((m) => [which, m]));
    entries.sort((a, b) => !!viewer.sides[a[0]].masks[a[1]].partner - !!viewer.sides[b[0]].masks[b[1]].partner);
    viewer.entries = entries;
    byId("listed").textContent = `${number(entries.length)} ${entries.length === 1 ? "mask" : "masks"}, the lowest score first`;
    byId("list").replaceChildren(...entries.map(([side, which]) => listed(side, which)));
    const kept = viewer.at && visible(viewer.at[0]).includes(viewer.at[1]);
    point(...(kept ? viewer.at : [0, null]));
  }

  function listed(side, which) {
    const mask = viewer.sides[side].masks[which];
    const bar = make("b");
    bar.style.width = `${100 * Math.max(0, Math.min(1, scoreOf(mask) ?? 0))}%`;
    const line = make("button", { type: "button", "data-mask": `${side}.${which}` }, square(mask.colour), number(scoreOf(mask), 2), make("span", { class: "bar" }, bar), areaOf(mask));
    line.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && !viewer.kept && point(side, which));
    line.addEventListener("click", () => select(side, which));
    return make("li", {}, line);
  }

  const areaOf = (mask) => {
    const share = (100 * mask.area) / (viewer.photo.size[0] * viewer.photo.size[1]);
    return `${share >= 1 ? number(share, share < 10 ? 1 : 0) : share >= 0.01 ? number(share, 2) : "< 0.01"} %`;
  };

  function paintAll(side) {
    const { all, masks } = viewer.sides[side];
    const [width, height] = viewer.photo.shown;
    const pen = all.getContext("2d");
    pen.clearRect(0, 0, width, height);
    const order = visible(side).sort((a, b) => masks[b].area - masks[a].area);
    if (viewer.masks) {
      const image = pen.createImageData(width, height);
      const pixels = new Uint32Array(image.data.buffer);
      if (!viewer.map || !viewer.photo.trace) for (const which of order) fill(pixels, masks[which], packed(masks[which].colour, 92), width, height);
      for (const which of order) for (const pixel of edgeOf(masks[which], width, height)) pixels[pixel] = packed(masks[which].colour, 255);
      pen.putImageData(image, 0, 0);
    }
    if (viewer.prompts && viewer.photo.trace) paintFates(pen, Math.max(3, width / 260, (4 * width) / (all.clientWidth || width)));
    else if (viewer.prompts) for (const which of order) prompt(pen, masks[which], Math.max(3, width / 260), false);
  }

  const packed = (colour, alpha) => {
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0; // the bytes of a canvas, little-endian
  };

  function fill(pixels, mask, colour, width, height) {
    mask.starts.forEach((start, run) => {
      let x = Math.floor(start / height), y = start % height;
      for (let left = mask.stops[run] - start; left > 0; left--) {
        pixels[y * width + x] = colour;
        if (++y === height) (y = 0), x++;
      }
    });
  }

  /** Find the pixels of a mask that have a neighbour outside it, once. */
  function edgeOf(mask, width, height) {
    if (mask.edge) return mask.edge;
    const edge = [];
    mask.starts.forEach((start, run) => {
      for (let pixel = start; pixel < mask.stops[run]; pixel++) {
        const x = Math.floor(pixel / height), y = pixel % height;
        const out = (y > 0 && pixel === start) || (y < height - 1 && pixel === mask.stops[run] - 1);
        if (out || (x > 0 && !holds(mask, pixel - height)) || (x < width - 1 && !holds(mask, pixel + height))) edge.push(y * width + x);
      }
    });
    return (mask.edge = Int32Array.from(edge));
  }

  /** Mark a mask's prompt: a dot for a point, a square at the centre of a box. */
  function prompt(pen, mask, radius, whole) {
    const [width] = viewer.photo.shown;
    const scale = width / viewer.photo.size[0];
    pen.lineWidth = Math.max(1.5, radius / 2.5);
    const mark = (draw_) => {
      pen.beginPath();
      draw_();
      pen.strokeStyle = "#14171c";
      pen.fillStyle = whole ? "#fde047" : "#fff";
      pen.stroke();
      pen.fill();
    };
    (mask.points || []).forEach(([x, y]) => mark(() => pen.arc(x * scale, y * scale, radius, 0, 7)));
    if (mask.box && mask.box.length === 4) {
      const [x0, y0, x1, y1] = mask.box.map((side) => side * scale);
      const side = 1.8 * radius;
      if (!(mask.points || []).length || whole) mark(() => pen.rect((x0 + x1 - side) / 2, (y0 + y1 - side) / 2, side, side));
      if (whole) {
        pen.setLineDash([6, 4]);
        pen.strokeStyle = "#fde047";
        pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
        pen.setLineDash([]);
      }
    }
  }

  // ---- the mask that is pointed at
  function select(side, which) {
    viewer.kept = true;
    point(side, which);
    const line = byId("list").querySelector(`[data-mask="${side}.${which}"]`);
    const view = byId("viewer").querySelector(".view");
    if (getComputedStyle(view).display === "grid") line?.scrollIntoView({ block: "nearest" });
    else view.scrollTo({ top: 0, behavior: "smooth" }); // where the mask is described
  }

  function point(side, which) {
    viewer.at = which === null ? null : [side, which];
    const partner = which === null ? null : viewer.sides[side].masks[which].partner;
    viewer.sides.forEach((one, place_) => {
      const [width, height] = viewer.photo.shown;
      const pen = one.pointed.getContext("2d");
      pen.clearRect(0, 0, width, height);
      const here = which === null ? null : place_ === side ? which : partner ? partner[0] : null;
      one.pointed.closest(".stage").classList.toggle("pointed", which !== null);
      if (here === null) return;
      const mask = one.masks[here];
      const image = pen.createImageData(width, height);
      const pixels = new Uint32Array(image.data.buffer);
      fill(pixels, mask, packed(mask.colour, 120), width, height);
      const parent = one.masks[mask.parent];
      if (parent) edgeOf(parent, width, height).forEach((pixel, step) => (pixels[pixel] = step % 8 < 5 ? packed("#ffffff", 235) : packed("#14171c", 160)));
      thick(pixels, edgeOf(mask, width, height), packed(mask.colour, 255), width, height);
      pen.putImageData(image, 0, 0);
      prompt(pen, mask, Math.max(4, width / 170), true);
    });
    for (const line of byId("list").querySelectorAll("[aria-current]")) line.removeAttribute("aria-current");
    if (which !== null) byId("list").querySelector(`[data-mask="${side}.${which}"]`)?.setAttribute("aria-current", "true");
    describe(side, which);
  }

  function thick(pixels, edge, colour, width, height) {
    for (const pixel of edge) {
      const x = pixel % width, y = (pixel - x) / width;
      for (const [dx, dy] of [[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
        if (x + dx >= 0 && x + dx < width && y + dy >= 0 && y + dy < height) pixels[(y + dy) * width + x + dx] = colour;
    }
  }

  const heading = (...name) =>
    make(
      "h3",
      {},
      make("span", {}, ...name),
      make("button", { type: "button", "aria-label": "previous mask", title: "previous mask (↑)", onclick: () => step(-1) }, "‹"),
      make("button", { type: "button", "aria-label": "next mask", title: "next mask (↓)", onclick: () => step(1) }, "›")
    );

  function describe(side, which) {
    if (which === null) {
      byId("mask").replaceChildren(heading("Mask"), make("p", { class: "empty" }, "Point at a mask, or tap it: its scores, its prompt, what it is a part of. Tap again for the next larger one there."));
      return;
    }
    const masks = viewer.sides[side].masks;
    const mask = masks[which];
    const to = (other, at = side) => make("button", { type: "button", onclick: () => select(at, other) }, `mask ${other}`);
    const parts = masks.flatMap((other, place_) => (other.parent === which ? [place_] : []));
    const lines = [];
    const line = (name, ...value) => lines.push(make("dt", {}, name), make("dd", {}, ...value));
    if (told.sides.length > 1)
      mask.partner ? line("Also in", told.sides[1 - side] + ", ", to(mask.partner[0], 1 - side), `IoU ${number(mask.partner[1], 2)}`) : line("Only in", told.sides[side]);
    if (mask.score !== undefined) line("Score, learned", number(mask.score, 3));
    if (mask.iou !== undefined) line("Predicted IoU", number(mask.iou, 3));
    if (mask.stability !== undefined) line("Stability", number(mask.stability, 3));
    line("Area", `${number(mask.area)} px, ${areaOf(mask)}`);
    if (mask.bbox) line("Box (x, y, w, h)", mask.bbox.map((v) => number(v)).join(", "));
    if (mask.points && mask.points.length) line("Prompt", mask.points.map((p) => `(${p.map((v) => number(v)).join(", ")})`).join(" "));
    if (mask.box && mask.box.length) line("Prompt box", mask.box.map((v) => number(v)).join(", "));
    if (mask.crop) line("Crop", mask.crop.map((v) => number(v)).join(", "));
    if (masks[mask.parent]) line("Part of", to(mask.parent));
    if (parts.length) line("Parts", ...parts.slice(0, 24).map((part) => to(part)), parts.length > 24 ? `and ${parts.length - 24} more` : "");
    byId("mask").replaceChildren(heading(square(mask.colour), `Mask ${which}`), make("dl", {}, ...lines));
  }

  function step(by) {
    if (!viewer.photo || !viewer.entries.length) return;
    const now = viewer.entries.findIndex(([side, which]) => viewer.at && side === viewer.at[0] && which === viewer.at[1]);
    const to = now < 0 ? (by > 0 ? 0 : viewer.entries.length - 1) : (now + by + viewer.entries.length) % viewer.entries.length;
    select(...viewer.entries[to]);
  }

  function toggle(what) {
    if (what === "map" && !viewer.photo?.trace?.maps.length) return;
    viewer[what] = !viewer[what];
    byId(what).setAttribute("aria-pressed", String(viewer[what]));
    for (const picture of byId("stages").querySelectorAll(".map")) picture.hidden = !viewer.map;
    viewer.sides.forEach((_, side) => paintAll(side));
  }

  // ---- keys and buttons
  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches?.("input:not([type=checkbox]):not([type=range]), select");
    const key = event.key.toLowerCase();
    if (byId("viewer").open) {
      const sliding = event.target.matches?.("input[type=range]");
      const acts = { arrowleft: () => go(-1), arrowright: () => go(1), arrowup: () => step(-1), arrowdown: () => step(1), m: () => toggle("masks"), p: () => toggle("prompts"), c: () => toggle("map"), ",": () => goRound(viewer.round - 1), ".": () => goRound(viewer.round + 1) };
      if (acts[key] && !(sliding && key.startsWith("arrow"))) event.preventDefault(), acts[key]();
      return;
    }
    if (typing) return;
    if (key === "/") event.preventDefault(), byId("name").focus();
    else if (key === "]" || key === "[") turn(key === "]" ? 1 : -1);
    else if (key.startsWith("arrow")) move(event, key);
  }

  function move(event, key) {
    const cards = [...byId("photos").querySelectorAll(".photo")];
    if (!cards.length || (event.target.matches("input, button") && !event.target.closest("#photos"))) return;
    const now = cards.indexOf(document.activeElement);
    const wide = cards.filter((one) => one.offsetTop === cards[0].offsetTop).length;
    const by = { arrowleft: -1, arrowright: 1, arrowup: -wide, arrowdown: wide }[key];
    if (now < 0 && by < 0) return;
    event.preventDefault();
    const to = now < 0 ? 0 : now + by;
    if (to >= cards.length && Math.abs(by) === 1 && turn(1)) byId("photos").querySelector(".photo").focus();
    else if (to < 0 && by === -1 && turn(-1)) [...byId("photos").querySelectorAll(".photo")].pop().focus();
    else cards[Math.max(0, Math.min(cards.length - 1, to))].focus();
  }

  document.addEventListener("keydown", onKey);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("input", filtered);
  byId("filters").addEventListener("reset", () => setTimeout(filtered));
  byId("more").addEventListener("click", () => byId("more").setAttribute("aria-expanded", String(byId("filters").classList.toggle("open"))));
  for (const id of ["back", "back-below"]) byId(id).addEventListener("click", () => turn(-1));
  for (const id of ["next", "next-below"]) byId(id).addEventListener("click", () => turn(1));
  byId("before").addEventListener("click", () => go(-1));
  byId("after").addEventListener("click", () => go(1));
  byId("masks").addEventListener("click", () => toggle("masks"));
  byId("prompts").addEventListener("click", () => toggle("prompts"));
  byId("map")?.addEventListener("click", () => toggle("map"));
  byId("round")?.addEventListener("input", () => goRound(Number(byId("round").value)));
  byId("round-before")?.addEventListener("click", () => goRound(viewer.round - 1));
  byId("round-after")?.addEventListener("click", () => goRound(viewer.round + 1));
  byId("close").addEventListener("click", closeViewer);
  byId("viewer").addEventListener("cancel", (event) => (event.preventDefault(), closeViewer()));
  for (const id of ["least-score", "least-area", "only"]) byId(id)?.addEventListener("input", redraw);
  addEventListener("hashchange", () => (readAddress(), choose()));
  return { contents, rows, photo };
})();
