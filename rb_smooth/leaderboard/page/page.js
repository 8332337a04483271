"use strict";
// Switches boards, sorts and filters rows, opens panels. Panels are in the page, or each in a file that a drawer shows in
// a frame; nothing else is fetched, and no text becomes markup.
(() => {
  const boards = [...document.querySelectorAll(".board")];
  const byKey = (root, key) => root.querySelector(`[data-key="${CSS.escape(key)}"]`);

  // ── the address's fragment: a board or a model's panel ─────────────────────────────────────────────────────────
  const drawer = document.querySelector(".drawer"); // none if the panels are in the page

  function target() {
    try {
      const key = decodeURIComponent(location.hash.slice(1));
      const found = document.getElementById(key);
      return !found && drawer && key && byKey(document, key) ? fill(key) : found;
    } catch {
      return null; // not a valid address
    }
  }

  // The drawer with the panel of the model `key`. A new frame adds nothing to the history, other than a new address.
  function fill(key) {
    if (drawer.dataset.key !== key) {
      const frame = document.createElement("iframe");
      frame.src = `${drawer.dataset.folder}${encodeURIComponent(key)}.html`;
      frame.title = "Details";
      frame.allow = "clipboard-write";
      drawer.replaceChildren(frame);
      drawer.dataset.key = key;
      drawer.dataset.board = byKey(document, key).closest(".board").id;
    }
    return drawer;
  }

  if (drawer) {
    addEventListener("click", (event) => {
      const link = event.target.closest("a");
      if (!link?.getAttribute("href")?.startsWith(drawer.dataset.folder)) return;
      if (event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      location.hash = link.getAttribute("href").slice(drawer.dataset.folder.length, -".html".length);
    });
    addEventListener("message", ({ source, data }) => {
      if (source !== drawer.querySelector("iframe")?.contentWindow || typeof data !== "string") return;
      if (data) location.hash = data;
      else drawer.close();
    });
  }

  function showBoard(board) {
    for (const each of boards) each.classList.toggle("current", each === board);
    document.querySelector(".skip").hash = `${board.id}:models`;
    for (const link of document.querySelectorAll(".top nav a")) {
      if (link.hash === `#${board.id}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  function followAddress() {
    const found = target();
    for (const open of document.querySelectorAll("dialog[open]")) if (open !== found) open.close();
    if (found instanceof HTMLDialogElement) {
      showBoard(document.getElementById(found.dataset.board));
      if (!found.open) {
        found.showModal();
        found.querySelector(".close, iframe").focus({ preventScroll: true });
      }
      found.scrollTop = 0;
    } else if (found?.matches(".board")) {
      showBoard(found);
      scrollTo(0, 0);
    }
  }

  let lastFocus = null; // a link to a fragment moves the focus before the panel opens
  addEventListener("focusin", (event) => {
    if (!event.target.closest("dialog")) lastFocus = event.target;
  });

  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("close", () => {
      if (target() === dialog) history.replaceState(null, "", `#${dialog.dataset.board}`);
      lastFocus?.focus({ preventScroll: true });
    });
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog && event.clientX < dialog.getBoundingClientRect().left) dialog.close();
    });
    dialog.querySelector(".close")?.addEventListener("click", (event) => {
      event.preventDefault();
      dialog.close();
    });
  }

  // ── seeds of one method: rows below that of their mean, folded at first ─────────────────────────────────────────
  function seedsOf(rows) {
    const found = new Map();
    for (const row of rows) {
      if (row.dataset.in) found.set(row.dataset.in, [...(found.get(row.dataset.in) ?? []), row]);
    }
    return found;
  }

  function addFold(button, seeds) {
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-expanded") !== "true";
      button.setAttribute("aria-expanded", String(open));
      for (const row of seeds) row.classList.toggle("open", open);
    });
  }

  // ── sorting: within a group of comparable models ───────────────────────────────────────────────────────────
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value ?? cell.textContent.trim();
  };

  function compare(a, b) {
    if (a === "" || b === "") return (a === "") - (b === ""); // empty values come last in both directions
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y;
  }

  function sort(table, heading) {
    const headings = [...heading.parentElement.cells];
    const column = headings.indexOf(heading);
    const before = heading.getAttribute("aria-sort");
    const direction = before ? (before === "ascending" ? "descending" : "ascending") : heading.dataset.first;
    for (const each of headings) each.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => !row.matches(".group"));
      rows.sort((one, other) => {
        const [a, b] = [value(one, column), value(other, column)];
        return a === "" || b === "" ? compare(a, b) : sign * compare(a, b);
      });
      const seeds = seedsOf(rows); // they stay below the row of their method
      body.append(...rows.filter((row) => !row.dataset.in).flatMap((row) => [row, ...(seeds.get(row.dataset.seeds) ?? [])]));
    }
  }

  function addSortButton(heading, table) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(table, heading));
    heading.append(button);
  }

  // ── filters: rows and their points in the chart ────────────────────────────────────────────────────────────────
  function filter(board) {
    const form = board.querySelector(".filters");
    const choices = [...new FormData(form)].filter(([name, wanted]) => name !== "text" && wanted);
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...board.querySelectorAll("tr[data-key]")];
    let count = 0;
    for (const row of rows) {
      row.text ??= row.textContent.toLowerCase();
      row.hidden = !(choices.every(([name, wanted]) => row.dataset[name] === wanted) && words.every((word) => row.text.includes(word)));
      count += !row.hidden;
      board.points.get(row.dataset.key)?.forEach((mark) => mark.classList.toggle("off", row.hidden));
    }
    const seeds = seedsOf(rows);
    for (const row of board.querySelectorAll("tr[data-seeds]")) row.hidden = seeds.get(row.dataset.seeds).every((each) => each.hidden);
    board.classList.toggle("searching", words.length > 0);
    for (const body of board.querySelectorAll(".models tbody")) {
      body.rows[0].hidden = [...body.rows].slice(1).every((row) => row.hidden);
    }
    board.querySelector(".nothing").hidden = count > 0;
    board.querySelector(".shown").textContent = `${count} of ${rows.length} models`;
    board.updateTabStop?.();
  }

  // ── the chart: a single tab stop; arrow keys move between models ──────────────────────────────────────────
  function chart(board) {
    const marks = [...board.querySelectorAll(".scatter [data-of]")];
    board.points = new Map();
    for (const mark of marks) board.points.set(mark.dataset.of, [...(board.points.get(mark.dataset.of) ?? []), mark]);
    const links = marks.filter((mark) => mark.matches("a"));
    if (!links.length) return;
    const readout = board.querySelector(".readout");
    const svg = board.querySelector(".scatter svg");
    const position = (link) => {
      const use = link.querySelector("use");
      return [Number(use.getAttribute("x")), Number(use.getAttribute("y"))];
    };
    const ordered = [...links].sort((a, b) => position(a)[0] - position(b)[0]);
    const visible = () => ordered.filter((link) => !link.matches(".off"));

    board.updateTabStop = (chosen = visible()[0]) => links.forEach((link) => link.setAttribute("tabindex", link === chosen ? "0" : "-1"));
    board.updateTabStop();

    function highlight(link) {
      for (const lit of board.querySelectorAll(".lit")) lit.classList.remove("lit");
      link?.classList.add("lit");
      const row = link && byKey(board, link.dataset.of);
      row?.classList.add("lit");
      if (row?.dataset.in) board.querySelector(`[data-seeds="${CSS.escape(row.dataset.in)}"]`).classList.add("lit");
      readout.textContent = link ? link.querySelector("title").textContent : readout.dataset.hint;
      readout.classList.toggle("full", Boolean(link));
    }

    function nearest(event) {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const distance = (link) => Math.hypot(position(link)[0] - at.x, position(link)[1] - at.y);
      const best = visible().reduce((a, b) => (distance(b) <= distance(a) ? b : a), visible()[0]);
      return best && distance(best) < 16 / svg.getScreenCTM().a ? best : null;
    }

    svg.addEventListener("pointermove", (event) => {
      const link = nearest(event);
      svg.classList.toggle("near", Boolean(link));
      highlight(link);
    });
    svg.addEventListener("pointerleave", () => highlight(null));
    svg.addEventListener("click", (event) => {
      const link = nearest(event);
      if (link && !event.target.closest("a")) location.hash = link.dataset.of;
    });
    svg.addEventListener("focusin", (event) => highlight(event.target.closest("a")));
    svg.addEventListener("focusout", () => highlight(null));
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const shown = visible();
      const next = shown[(shown.indexOf(event.target.closest("a")) + step + shown.length) % shown.length];
      board.updateTabStop(next);
      next?.focus();
    });
    board.querySelector(".models").addEventListener("pointerover", (event) => {
      const { key, seeds } = event.target.closest("tr")?.dataset ?? {};
      const lit = new Set(seeds ? [...board.querySelectorAll(`[data-in="${CSS.escape(seeds)}"]`)].map((row) => row.dataset.key) : [key]);
      links.forEach((link) => link.classList.toggle("lit", lit.has(link.dataset.of)));
    });
  }

  for (const board of boards) {
    const table = board.querySelector(".models");
    for (const heading of table.tHead.rows[0].cells) addSortButton(heading, table);
    const seeds = seedsOf([...board.querySelectorAll("tr[data-in]")]);
    for (const button of board.querySelectorAll(".fold")) addFold(button, seeds.get(button.closest("tr").dataset.seeds));
    chart(board);
    const form = board.querySelector(".filters");
    for (const event of ["input", "change"]) form.addEventListener(event, () => filter(board));
    form.addEventListener("reset", () => setTimeout(() => filter(board)));
    form.addEventListener("submit", (event) => event.preventDefault());
  }
  addEventListener("hashchange", followAddress);
  followAddress();
})();
