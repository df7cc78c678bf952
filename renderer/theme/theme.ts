/** One calm look: system fonts, a muted teal, colours of status that keep their contrast in both schemes. */
import {
  Alert,
  Badge,
  Card,
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
  '#2497ae',
  '#0f6f83',
  '#0b6375',
  '#075362',
];

export const theme = createTheme({
  primaryColor: 'brand',
  primaryShade: { light: 7, dark: 6 },
  autoContrast: true,
  luminanceThreshold: 0.36,
  colors: { brand },
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
      styles: { root: { textTransform: 'none', fontWeight: 600 } },
    }),
    Alert: Alert.extend({ defaultProps: { variant: 'light' } }),
    Table: Table.extend({ defaultProps: { verticalSpacing: 'xs', horizontalSpacing: 'sm' } }),
    Modal: Modal.extend({ defaultProps: { centered: true, radius: 'md' } }),
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
  },
  dark: {
    '--mantine-color-body': '#1e2428',
    '--anneal-page': '#161b1e',
    '--anneal-planned': '#2f5660',
    '--anneal-done': '#4fb3c7',
    '--anneal-second': '#e39a56',
    '--anneal-second-planned': '#5b4633',
    '--mantine-color-dimmed': '#9aa7b0',
    '--mantine-color-default-border': '#39434a',
  },
});
