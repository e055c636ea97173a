// What a report's page does: it draws charts, opens the details of a file, and sorts tables.
"use strict";
(() => {
  const data = document.getElementById("charts");
  const charts = data ? JSON.parse(data.textContent) : {};
  const reduced = matchMedia("(prefers-reduced-motion: reduce)").matches;

  function open(place) {
    const details = document.getElementById(`file-${place}`);
    if (!details) return;
    details.open = true;
    details.scrollIntoView({ block: "nearest", behavior: reduced ? "auto" : "smooth" });
    details.querySelector("summary").focus({ preventScroll: true });
  }

  async function draw(name, spec) {
    const place = document.getElementById(`chart-${name}`);
    // `ast`: expressions are interpreted, so that the page may forbid evaluating text.
    const options = { actions: false, ast: true, renderer: "svg", tooltip: { theme: "page" } };
    const { view } = await window.vegaEmbed(place, spec, options);
    view.addEventListener("click", (event, item) => {
      if (item && item.datum && Number.isInteger(item.datum.place)) open(item.datum.place);
    });
    place.dataset.drawn = "yes";
  }

  Promise.all(Object.entries(charts).map(([name, spec]) => draw(name, spec)))
    .then(() => { document.body.dataset.charts = Object.keys(charts).length; })
    .catch((error) => {
      document.body.dataset.charts = "failed";
      throw error;
    });

  // A cell is sorted by its `data-value`, as a number, or else by its text. Cells without
  // a value stay last, whichever way the others are.
  function valueOf(row, column) {
    const cell = row.cells[column];
    const text = (cell.dataset.value ?? cell.textContent).trim();
    const number = text === "" ? NaN : Number(text);
    return { text, number, missing: text === "" };
  }

  function compare(a, b) {
    const both = !Number.isNaN(a.number) && !Number.isNaN(b.number);
    return both ? a.number - b.number : a.text.localeCompare(b.text, undefined, { numeric: true });
  }

  function sort(table, column, sign) {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => ({ row, value: valueOf(row, column) }));
    rows.sort((a, b) =>
      a.value.missing !== b.value.missing
        ? Number(a.value.missing) - Number(b.value.missing)
        : sign * compare(a.value, b.value) || a.row.dataset.place - b.row.dataset.place);
    body.append(...rows.map(({ row }) => row));
    [...table.tHead.rows[0].cells].forEach((head, number) => {
      const how = sign > 0 ? "ascending" : "descending";
      if (number === column) head.setAttribute("aria-sort", how);
      else head.removeAttribute("aria-sort");
    });
  }

  function makeSortable(table) {
    [...table.tBodies[0].rows].forEach((row, place) => { row.dataset.place = place; });
    const choice = document.createElement("select");
    choice.append(new Option("as in the model", ""));
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      choice.append(new Option(button.textContent, column));
      button.addEventListener("click", () => {
        const numeric = head.classList.contains("number");
        const now = head.getAttribute("aria-sort");
        const sign = now ? (now === "ascending" ? -1 : 1) : numeric ? -1 : 1;
        sort(table, column, sign);
      });
    });
    choice.addEventListener("change", () => {
      if (choice.value === "") {
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => a.dataset.place - b.dataset.place);
        table.tBodies[0].append(...rows);
        return;
      }
      const head = table.tHead.rows[0].cells[Number(choice.value)];
      sort(table, Number(choice.value), head.classList.contains("number") ? -1 : 1);
    });
    const label = document.createElement("label");
    label.className = "sorting";
    label.append("sorted by ", choice);
    table.parentElement.before(label);
  }

  document.querySelectorAll("table.sorts").forEach(makeSortable);

  // On paper nothing can be opened.
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details:not([open])").forEach((details) => {
      details.open = true;
      details.dataset.printed = "yes";
    });
  });
  addEventListener("afterprint", () => {
    document.querySelectorAll("details[data-printed]").forEach((details) => {
      details.open = false;
      delete details.dataset.printed;
    });
  });
})();
