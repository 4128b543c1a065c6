// The sidebar tab with our page, and badges on nodes that were answered from the cache.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const WORDS = {
  en: {
    title: "Z-Image cache",
    tooltip: "Z-Image cache: hits, results, weights",
    hit: (seconds) => `cached, ${seconds} saved`,
    shared: "cached", // another hit of the prompt saved the same work
    partly: (hits, of, seconds) => `${hits} of ${of} cached, ${seconds} saved`,
  },
  zh: {
    title: "Z-Image 缓存",
    tooltip: "Z-Image 缓存：命中、结果、权重",
    hit: (seconds) => `缓存命中，节省 ${seconds}`,
    shared: "缓存命中",
    partly: (hits, of, seconds) => `${hits}/${of} 缓存命中，节省 ${seconds}`,
  },
};

const locale = () => app.extensionManager.setting.get("Comfy.Locale") ?? "en";
const language = () => (String(locale()).startsWith("zh") ? "zh" : "en");
const words = () => WORDS[language()];

// The page ------------------------------------------------------------------------------------------

// Older pages mark the body, newer ones the root element.
const themed = [document.documentElement, document.body];
const theme = () => (themed.some((each) => each.classList.contains("dark-theme")) ? "dark" : "light");
const address = () => api.fileURL(`/zit/?panel=comfyui&theme=${theme()}&lang=${language()}`);

let watching = null;

function showPage(element) {
  const frame = document.createElement("iframe");
  frame.title = words().title;
  frame.style.cssText = "display:block;width:100%;height:100%;border:0;color-scheme:normal";
  element.style.height = "100%";
  element.replaceChildren(frame);
  frame.src = address();
  watching?.disconnect();
  watching = new MutationObserver(() => {
    const root = frame.contentDocument?.documentElement;
    if (root) root.dataset.theme = theme();
  });
  for (const each of themed) watching.observe(each, { attributes: true, attributeFilter: ["class"] });
}

function hidePage() {
  watching?.disconnect();
  watching = null;
}

// Badges --------------------------------------------------------------------------------------------

const shown = new Map(); // node -> its badge, where there is something to say
let nothing = null;

// Each node has a badge from the beginning, mostly an empty one, which nobody draws. The nodes that Vue
// draws look at a node's badges once, when they are made; what a badge says they ask again whenever the
// node's outputs change, since that is asked for here.
function giveBadge(node) {
  if (window.LGraphBadge === undefined) return;
  node.badges?.push(() => {
    void node.outputs?.length;
    return shown.get(node) ?? (nothing ??= new window.LGraphBadge({ text: "" }));
  });
}

function redraw(node) {
  if (node.outputs?.length) node.outputs.push(node.outputs.pop());
  const { id: nodeId, mode } = node;
  node.graph?.trigger?.("node:property:changed", {
    type: "node:property:changed", nodeId, property: "mode", oldValue: mode, newValue: mode,
  });
  node.setDirtyCanvas?.(true, true);
}

function clearBadges() {
  const before = [...shown.keys()];
  shown.clear();
  before.forEach(redraw);
}

// "5:12" is node 12 in the subgraph that node 5 stands for.
function nodeOf(id) {
  let graph = app.rootGraph ?? app.graph;
  let node = null;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById(part) ?? graph?.getNodeById(Number(part)) ?? null;
    graph = node?.subgraph;
  }
  return node;
}

function showBadge({ node: id, hits, of, saved_seconds: saved }) {
  const node = nodeOf(id);
  if (!node || !hits || !window.LGraphBadge) return;
  const seconds = `${saved.toFixed(saved < 10 ? 1 : 0)} s`;
  const whole = saved > 0 ? words().hit(seconds) : words().shared;
  const text = hits < of ? words().partly(hits, of, seconds) : whole;
  shown.set(node, new window.LGraphBadge({ text, fgColor: "#ffffff", bgColor: "#15703f" }));
  redraw(node);
}

// ---------------------------------------------------------------------------------------------------

app.registerExtension({
  name: "zit_ext",
  nodeCreated: giveBadge,
  setup() {
    api.addEventListener("zit.answered", (event) => showBadge(event.detail));
    api.addEventListener("execution_start", clearBadges);
    app.extensionManager.registerSidebarTab({
      id: "zit_ext",
      icon: "pi pi-bolt",
      title: words().title,
      tooltip: words().tooltip,
      type: "custom",
      render: showPage,
      destroy: hidePage,
    });
  },
});
