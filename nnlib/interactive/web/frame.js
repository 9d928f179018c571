(key, page) => {
  // Puts a frame that holds the whole page in the place of each picture of this figure.
  // A frame, because a notebook takes the keys from what stands in it directly, and two figures then can't meet.
  const theme = () => {
    const told = document.documentElement.dataset.theme; // the course's site: light, dark (or auto)
    if (told === "light" || told === "dark") return told;
    const lab = document.body.dataset.jpThemeLight; // JupyterLab: "true" or "false"
    if (lab) return lab === "true" ? "light" : "dark";
    return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  };
  for (const figure of document.querySelectorAll(`.nn-figure[data-key="${key}"]`)) {
    if (figure.querySelector("iframe")) continue;
    const picture = figure.querySelector("img");
    const frame = document.createElement("iframe");
    frame.title = picture.alt;
    frame.srcdoc = page.replace("<html", `<html data-theme="${theme()}"`);
    frame.style.cssText = `width: 100%; height: ${figure.dataset.height}px; border: 0; display: block`;
    picture.replaceWith(frame);
    addEventListener("message", (event) => {
      if (event.source !== frame.contentWindow || !(event.data?.nnHeight > 0)) return; // another's
      frame.style.height = `${event.data.nnHeight}px`;
    });
    const tell = () => frame.contentWindow?.postMessage({ nnTheme: theme() }, "*");
    const watch = new MutationObserver(tell);
    watch.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    watch.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tell);
  }
};
