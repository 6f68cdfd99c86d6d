"use strict";
const report = JSON.parse(document.getElementById("report-data").textContent);
const each = (selector, act, root = document) => root.querySelectorAll(selector).forEach(act);

// Light or dark: the system's choice until the button is pressed.
const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");
const themeListeners = [];
function setTheme(name) {
  root.dataset.theme = name;
  root.style.colorScheme = name;
  themeListeners.forEach((listener) => listener());
}
setTheme(dark.matches ? "dark" : "light");
let chosen = false;
dark.addEventListener("change", () => { if (!chosen) setTheme(dark.matches ? "dark" : "light"); });
document.getElementById("theme").addEventListener("click", () => {
  chosen = true;
  setTheme(root.dataset.theme === "dark" ? "light" : "dark");
});

// The sections that this page has.
const nav = document.querySelector("nav");
each("section[data-nav]", (section) => {
  const link = document.createElement("a");
  link.href = "#" + section.id;
  link.textContent = section.dataset.nav;
  nav.append(link);
});

// Tables sort by a click on a heading; undefined goes last.
function sortTable(table, column, down) {
  const body = table.tBodies[0];
  const key = (row) => {
    const text = row.cells[column].textContent.trim();
    const number = text === "inf" ? Infinity : Number(text.replaceAll(",", ""));
    return text === "" || text === "-" ? null : Number.isNaN(number) ? text : number;
  };
  const rows = [...body.rows].map((row) => [key(row), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    return down ? -order : order;
  });
  body.append(...rows.map(([, row]) => row));
}
each("table.sortable", (table) => {
  each("th button", (button, column) => {
    button.addEventListener("click", () => {
      const head = button.parentElement;
      const down = head.getAttribute("aria-sort") === "ascending";
      each("th", (other) => other.removeAttribute("aria-sort"), table);
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sortTable(table, column, down);
    });
  }, table);
});

document.getElementById("copy").addEventListener("click", (event) => {
  const text = document.getElementById("paragraph");
  const range = document.createRange();
  range.selectNodeContents(text);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  const said = (word) => { event.target.textContent = word; };
  if (navigator.clipboard) {
    navigator.clipboard.writeText(text.textContent).then(() => said("Copied"), () => said("Selected: copy it"));
  } else {
    said("Selected: copy it");
  }
});
