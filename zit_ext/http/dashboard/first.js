// Before anything is drawn: the theme, and the host in whose panel the page is shown.
(() => {
  const asked = new URLSearchParams(location.search);
  let kept = null;
  try {
    kept = localStorage.getItem("zit.theme");
  } catch {
    // A frame without storage of its own: nothing is remembered.
  }
  const root = document.documentElement;
  const theme = asked.get("theme") || kept;
  root.dataset.theme = theme === "dark" || theme === "light" ? theme : "auto";
  const panel = asked.get("panel");
  if (panel === "comfyui" || panel === "a1111") root.dataset.panel = panel;
})();
