/** One calm look: system fonts, a muted teal, colours of status that keep their contrast in both schemes. */
import {
  Alert,
  Badge,
  Card,
  Collapse,
  type CSSVariablesResolver,
  createTheme,
  type MantineColorsTuple,
  Modal,
  Table,
  Tooltip,
} from '@mantine/core';

const brand: MantineColorsTuple = [
  '#e8f6f8',
  '#d3e9ee',
  '#a6d3dd',
  '#76bccb',
  '#4fa9bc',
  '#359db3',
  '#178096',
  '#0f6f83',
  '#0b6375',
  '#075362',
];

/** Mantine's own dark greys with a little of the brand's blue. Index 7 is the page's cards, 4 their borders. */
const dark: MantineColorsTuple = [
  '#d5dcdf',
  '#b8c2c7',
  '#98a5ac',
  '#6b7980',
  '#3d484f',
  '#303a40',
  '#222a2f',
  '#1b2226',
  '#151b1e',
  '#101416',
];

export const theme = createTheme({
  primaryColor: 'brand',
  primaryShade: { light: 7, dark: 6 },
  autoContrast: true,
  luminanceThreshold: 0.36,
  colors: { brand, dark },
  defaultRadius: 'md',
  cursorType: 'pointer',
  respectReducedMotion: true,
  fontFamily: 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif',
  headings: { fontWeight: '650' },
  components: {
    Card: Card.extend({ defaultProps: { withBorder: true, padding: 'lg', radius: 'md' } }),
    Badge: Badge.extend({
      defaultProps: { variant: 'light', radius: 'sm' },
      // Plain words, not shouted ones.
      styles: {
        root: { textTransform: 'none', fontWeight: 600, flexShrink: 0 },
        label: { fontSize: 'var(--mantine-font-size-xs)' },
      },
    }),
    Alert: Alert.extend({ defaultProps: { variant: 'light' } }),
    // A section that is still unfolding clips its fields: a list opened in one meanwhile was hidden, and stayed so.
    Collapse: Collapse.extend({ defaultProps: { transitionDuration: 0 } }),
    Table: Table.extend({ defaultProps: { verticalSpacing: 'xs', horizontalSpacing: 'sm' } }),
    Modal: Modal.extend({
      defaultProps: { centered: true, radius: 'md' },
      styles: { title: { fontWeight: 650 } },
    }),
    Tooltip: Tooltip.extend({ defaultProps: { multiline: true, maw: 280, withArrow: true } }),
  },
});

/** A page slightly off white, so that cards stand out without shadows; small text dark enough to read. */
export const resolveVariables: CSSVariablesResolver = () => ({
  variables: {},
  light: {
    '--mantine-color-body': '#ffffff',
    '--anneal-page': '#f4f7f8',
    '--anneal-planned': '#b9d8df',
    '--anneal-done': '#0f6f83',
    '--anneal-second': '#b4621b',
    '--anneal-second-planned': '#ecd3bd',
    '--mantine-color-dimmed': '#5a6570',
    '--mantine-color-error': '#c92a2a',
    '--mantine-color-green-light-color': '#1d5e2b',
    '--mantine-color-yellow-light-color': '#7a4a00',
    '--mantine-color-orange-light-color': '#97380a',
    '--mantine-color-red-light-color': '#a51d1d',
    '--mantine-color-violet-light-color': '#4a2bab',
  },
  dark: {
    '--mantine-color-body': '#1b2226',
    '--mantine-color-error': '#ff8787',
    '--mantine-color-brand-light': '#123a44',
    '--anneal-page': '#12171a',
    '--anneal-planned': '#35636f',
    '--anneal-done': '#4fb3c7',
    '--anneal-second': '#e39a56',
    '--anneal-second-planned': '#6f563d',
    '--mantine-color-dimmed': '#9aa7b0',
  },
});
