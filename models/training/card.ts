/** Prints what was measured: MODEL_CARD.md is made of the report and of nothing else. */
import { MOTOR_FEATURES } from '#drivers/sim/motorFeatures.ts';
import { READINGS } from './motorData.ts';
import { SEVERITIES, type Report } from './motorReport.ts';
import { RECIPE } from './motorVibration.ts';

export function modelCard(name: string, version: string, digest: string, report: Report): string {
  return `# ${name} ${version}

Tells whether a small geared motor vibrates as it should. Apache-2.0. Made by \`npm run train:vibration\`; this page is written by that command.
model.onnx: SHA-256 \`${digest}\`.

**In:** ${READINGS} consecutive readings of one source, each with the ${MOTOR_FEATURES.length} features ${MOTOR_FEATURES.map((feature) => `\`${feature.name}\``).join(', ')}.
**Out:** a score; 0 is the median of sound motors, 1 the threshold, set on validation motors for one false alarm per motor and week.
**How:** a ${RECIPE.layers.join('-')} perceptron, INT8 QDQ with 7-bit weights, standardisation and clipping at ± 8 standard deviations in the graph. It was trained to tell
windows of ${RECIPE.train.motors} sound motors from the same windows with one or two features shifted (outlier exposure). **No defect was shown to it in training.**

**All data are simulated** (\`drivers/sim/motorSignal.ts\`): the figures say how well it does on that model of a motor, and nothing about yours. For a real motor,
record it while it is sound and train again.

## Measured on ${RECIPE.test.motors} sound motors (${report.soundWindows} windows) and ${RECIPE.faults.motors} motors with an outer-race defect, none seen before

Share of windows detected at the threshold, and area under the ROC curve, by severity of the defect:

| detector | false alarms | ${SEVERITIES.map((severity) => `${severity}`).join(' | ')} |
|---|---|${SEVERITIES.map(() => '---|').join('')}
${report.detectors.map((row) => `| ${row.detector} | ${row.falseAlarms} | ${row.auc.map((auc, i) => `${percent(row.detected[i] ?? 0)}, AUC ${auc.toFixed(3)}`).join(' | ')} |`).join('\n')}

All thresholds follow the same rule. \`envelope_bpfo\` is made for exactly this defect: where one knows the bearing and its speed, a threshold on it finds
the defect earlier than this model. The model needs to know neither, and still sees the defect at another speed (below). What it hardly sees is a machine that
grows louder evenly over all bands.

False alarms per motor and day at the threshold: ${report.alarmsPerDay.toFixed(1)} measured; with so few windows anything up to ${report.alarmsPerDayBound.toFixed(1)} is compatible (95 %).
The target of one a week is an extrapolation of the tail. INT8 against float: largest difference of score ${report.int8.largestDifference.toFixed(3)}, same verdict in ${percent(report.int8.sameVerdicts, 2)} of windows.

## Outside what it was trained for

| condition | wanted | this model alarms | threshold on envelope_bpfo alarms |
|---|---|---|---|
${report.conditions.map((row) => `| ${row.name} | ${row.expected} | ${percent(row.alarms)} | ${percent(row.envelopeAlarms)} |`).join('\n')}
`;
}

const percent = (share: number, digits = share > 0 && share < 0.1 ? 1 : 0): string => `${(share * 100).toFixed(digits)} %`;
