// A link into the glossary shows the definition that describes it: under the pointer, with the focus, and on a touch screen at the first tap.
{
  const links = document.querySelectorAll("a[aria-describedby^='definition-']");
  let open = null, timer; // the link whose definition is shown
  const definition = link => document.getElementById(link.getAttribute("aria-describedby"));
  const hide = () => {
    clearTimeout(timer);
    if (open) definition(open).hidePopover();
    open = null;
  };
  const show = link => {
    clearTimeout(timer);
    if (open === link) return;
    hide();
    const tip = definition(open = link), line = [...link.getClientRects()].at(-1), {clientWidth, clientHeight} = document.documentElement;
    tip.showPopover();
    const left = Math.max(8, Math.min(line.left, clientWidth - tip.offsetWidth - 8)), below = line.bottom + 6;
    const top = below + tip.offsetHeight < clientHeight ? below : link.getClientRects()[0].top - 6 - tip.offsetHeight;
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${Math.max(8, top) + scrollY}px`;
  };
  const later = (action, ...what) => { clearTimeout(timer); timer = setTimeout(action, 200, ...what); };
  const mouse = action => event => { if (event.pointerType === "mouse") action(); };
  for (const link of links) {
    link.addEventListener("pointerenter", mouse(() => later(show, link)));
    link.addEventListener("pointerleave", mouse(() => later(hide)));
    link.addEventListener("focus", () => { if (link.matches(":focus-visible")) show(link); });
    link.addEventListener("blur", hide);
    link.addEventListener("click", event => {
      if (open === link || !event.detail || !matchMedia("(hover: none)").matches) return;
      event.preventDefault(); // the second tap follows the link
      show(link);
    });
    definition(link).addEventListener("pointerenter", () => clearTimeout(timer)); // it stays while it is pointed at
    definition(link).addEventListener("pointerleave", mouse(() => later(hide)));
  }
  document.addEventListener("keydown", event => { if (event.key === "Escape") hide(); });
  document.addEventListener("click", event => { if (!open?.contains(event.target)) hide(); });
}
