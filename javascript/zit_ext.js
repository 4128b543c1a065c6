// The tab "Z-Image" in the browser: the webui's progress bar, and the panels in the page's theme.
// Everything of ours begins with zit; nothing of the webui's is replaced.

// What Generate hands over: a task of its own, whose progress the webui then shows over the gallery.
window.zitSubmit = function(values) {
    const task = `task(zit-${Math.random().toString(36).slice(2)}${Math.random().toString(36).slice(2)})`;
    const container = document.getElementById("zit_gallery_container");
    const gallery = document.getElementById("zit_gallery");
    if (typeof requestProgress === "function" && container && gallery) {
        document.getElementById("zit_interrupt")?.classList.add("zit-running");
        requestProgress(task, container, gallery, () => {
            document.getElementById("zit_interrupt")?.classList.remove("zit-running");
        });
    }
    const sent = Array.from(values);
    sent[0] = task;
    return sent;
};

// Which picture of the gallery is chosen; -1 for none.
function zitSelected() {
    const small = [...document.querySelectorAll("#zit_gallery .thumbnails > .thumbnail-item")];
    return small.findIndex((each) => each.classList.contains("selected"));
}

function zitTold(told) {
    try {
        return JSON.parse(told) ?? {};
    } catch {
        return {};
    }
}

// The infotext of the chosen picture, once the page shows which that is; what is shown already if none is.
window.zitText = async function(told, shown) {
    await new Promise((done) => setTimeout(done, 100));
    return zitTold(told).zit_texts?.[zitSelected()] ?? shown;
};

// The seed of the chosen picture, of the first if none is; the field's own while there is no picture.
window.zitSeed = function(told, seed) {
    const seeds = zitTold(told).zit_seeds;
    return seeds?.[zitSelected()] ?? seeds?.[0] ?? seed;
};

// Where other tabs send a picture: the webui calls these by name.
window.switch_to_zit = function() {
    const name = [...document.querySelectorAll("#tabs button")].find((each) => each.textContent.trim() === "Z-Image");
    name?.click();
    return Array.from(arguments);
};
window.recalculate_prompts_zit = function() {
    return Array.from(arguments);
};

(function() {
    function panels() {
        const theme = document.body.classList.contains("dark") ? "dark" : "light";
        const language = window.localization?.["Z-Image cache"] ? "zh" : "en";
        for (const frame of document.querySelectorAll("iframe.zit-panel[data-zit]")) {
            frame.src = `zit/?panel=a1111&theme=${theme}&lang=${language}#${frame.dataset.zit}`;
            frame.removeAttribute("data-zit");
        }
    }
    if (typeof onUiLoaded === "function") {
        onUiLoaded(panels);
    }
})();
