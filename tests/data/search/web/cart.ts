export interface LineItem {
  sku: string;
  price: number;
  quantity: number;
}

/** Sum of all items with the discount code applied. */
export function cartTotal(items: LineItem[], discount: number): number {
  const sum = items.reduce((total, item) => total + item.price * item.quantity, 0);
  return Math.round(sum * (1 - discount));
}

/** Adds value added tax by country. */
export const addTax = (amount: number, country: string): number => {
  const rates: Record<string, number> = { DE: 0.19, FR: 0.2 };
  return amount * (1 + (rates[country] ?? 0));
};
