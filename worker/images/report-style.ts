/** The style of a report: light and dark by the reader's preference, no fonts and images from outside. */
export const REPORT_STYLE = `
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1c2330; --soft: #5b6575; --line: #dfe3ea;
  --good: #1a7f4b; --fresh: #2f9e6a; --day: #8fcfae; --week: #f0c95a; --old: #d9694a; --none: #e6e9ee; --bad: #c2431f; --bar: #3b6fd4; --bar2: #9db7e8; }
@media (prefers-color-scheme: dark) { :root { --page: #12161d; --card: #1a202a; --ink: #e6eaf1; --soft: #9aa5b5; --line: #2b3340;
  --good: #5fd39a; --fresh: #35a873; --day: #1f6a4a; --week: #a98420; --old: #b9492f; --none: #262d38; --bad: #f08a6c; --bar: #6b9bf2; --bar2: #3a5484; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.05rem; margin: 0 0 12px; }
.soft { color: var(--soft); } .small { font-size: .85rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px; margin-top: 16px; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin-top: 16px; }
.fact { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; }
.fact b { display: block; font-size: 1.3rem; white-space: nowrap; font-variant-numeric: tabular-nums; }
b.bad, .fact.bad b { color: var(--bad); } .fact.good b { color: var(--good); }
.wide { overflow-x: auto; } svg { display: block; max-width: 100%; height: auto; } svg text { fill: var(--soft); font: 11px system-ui, sans-serif; } svg text.total { fill: var(--ink); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: .8rem; }
th, td { padding: 4px 16px 4px 0; white-space: nowrap; vertical-align: top; } tr + tr td { border-top: 1px solid var(--line); }
td.name { max-width: 340px; overflow: hidden; text-overflow: ellipsis; } td.n, th.n { text-align: right; }
td.reason { white-space: normal; overflow-wrap: anywhere; } td.days, th.days { width: 40%; padding-right: 0; }
th.days > span + span { float: right; } wbr { display: none; } td.days { padding-top: 7px; }
.heat { width: 100%; height: 16px; max-width: none; } .legend { display: flex; flex-wrap: wrap; gap: 6px 16px; margin: 0 0 12px; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 6px; vertical-align: -1px; }
.age-0 { fill: var(--fresh); background: var(--fresh); } .age-1 { fill: var(--day); background: var(--day); }
.age-2 { fill: var(--week); background: var(--week); } .age-3 { fill: var(--old); background: var(--old); }
.age-none { fill: var(--none); background: var(--none); } .bar { fill: var(--bar); } .bar2 { fill: var(--bar2); }
.line { fill: none; stroke: var(--ink); stroke-width: 1.5; opacity: .7; } .axis { stroke: var(--line); }
.share { width: 100%; height: 18px; } .label { margin: 8px 0 4px; }
@media (max-width: 840px) {
  .chart { width: 760px; max-width: none; } main { padding: 16px 10px 32px; } section { padding: 12px; } .optional { display: none; }
  th, td { padding-right: 8px; } wbr { display: inline; }
  .heat-map { table-layout: fixed; } th.name { width: 36%; } th.age { width: 22%; } .heat-map td.name { white-space: normal; overflow-wrap: anywhere; } th.days { width: 42%; }
  .stacked thead { display: none; } .stacked tr { display: block; padding: 6px 0; } .stacked tr + tr { border-top: 1px solid var(--line); }
  .stacked td { display: block; border: 0; padding: 0; text-align: left; } .stacked td.optional { display: none; }
  .stacked td::before { content: attr(data-label) ": "; color: var(--soft); }
}
@media print { body { background: none; } section, .fact { break-inside: avoid; } }
`;
