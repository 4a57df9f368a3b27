// Looks for what a model's words must never become; part of the browser tests.

(() => {
  const TAGS = new Set(
    `P H1 H2 H3 H4 H5 H6 HR BR DIV SPAN PRE CODE BLOCKQUOTE UL OL LI STRONG EM DEL A BUTTON INPUT TABLE
     THEAD TBODY TR TH TD svg path`.split(/\s+/),
  );
  const ATTRIBUTES = new Set(
    `class href target rel title tabindex role aria-label aria-hidden scope start type checked disabled
     data-language viewBox d`.split(/\s+/),
  );
  const LINK = /^(https?:\/\/|mailto:)/;

  /** What is wrong with the nodes in a box. */
  function wrong(box) {
    return [...box.querySelectorAll("*")].flatMap((node) => [
      ...(TAGS.has(node.tagName) ? [] : [`element ${node.tagName}`]),
      ...[...node.attributes].filter((one) => !ATTRIBUTES.has(one.name)).map((one) => `attribute ${one.name}`),
      ...(node.tagName === "A" ? wrongLink(node) : []),
      ...(node.tagName === "INPUT" && !(node.type === "checkbox" && node.disabled) ? ["a field"] : []),
    ]);
  }

  function wrongLink(node) {
    const kept = node.rel.split(" ");
    return [
      ...(LINK.test(node.getAttribute("href")) ? [] : [`link to ${node.getAttribute("href")}`]),
      ...(kept.includes("noopener") && kept.includes("noreferrer") ? [] : [`link with rel ${node.rel}`]),
      ...(node.parentElement.closest("a") ? ["a link in a link"] : []),
    ];
  }

  /** Let a text come in piece by piece: what was wrong on the way, the links and words at the end. */
  async function stream(text, steps) {
    const { Stream } = await import("/console/static/js/markdown.js");
    const box = document.createElement("div");
    document.body.append(box);
    const coming = new Stream(box);
    const found = new Set();
    const size = Math.max(1, Math.ceil(text.length / steps));
    for (let end = size; end < text.length + size; end += size) {
      coming.update(text.slice(0, end));
      wrong(box).forEach((one) => found.add(one));
    }
    coming.update(text, { open: false });
    wrong(box).forEach((one) => found.add(one));
    await new Promise((resolve) => setTimeout(resolve));
    const links = [...box.querySelectorAll("a")].map((one) => one.getAttribute("href"));
    const told = { wrong: [...found], links, text: box.innerText, canary: window.canary ?? null };
    box.remove();
    return told;
  }

  return { wrong, stream };
})()
