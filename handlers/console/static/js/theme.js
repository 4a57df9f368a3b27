// Light or dark as it was chosen; runs before anything is drawn, so it is no module.

(() => {
  const KEY = "ringback.theme";
  const THEMES = ["auto", "light", "dark"];

  function stored() {
    try {
      const found = localStorage.getItem(KEY);
      return THEMES.includes(found) ? found : "auto";
    } catch {
      return "auto";
    }
  }

  function apply(theme) {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }

  window.ringbackTheme = {
    get: stored,
    set(theme) {
      try {
        localStorage.setItem(KEY, theme);
      } catch {
        // Without storage the choice lasts as long as the page.
      }
      apply(theme);
    },
  };
  apply(stored());
})();
