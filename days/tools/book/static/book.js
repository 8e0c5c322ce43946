// Excerpts of search results are fetched, which a browser refuses to do for files.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}
// A table or formula that is wider than the screen can be scrolled by the keyboard, too.
addEventListener("DOMContentLoaded", () => {
  for (const box of document.querySelectorAll(".table-wrapper, .formula, .listing pre")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
});
