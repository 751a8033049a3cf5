"""Reports for accounting."""
import csv


def write_csv(rows, path):
    """Saves rows as a spreadsheet."""
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)


def monthly_revenue(invoices):
    """Sums paid invoices by month."""
    months = {}
    for invoice in invoices:
        if invoice["paid"]:
            month = invoice["date"][:7]
            months[month] = months.get(month, 0) + invoice["amount"]
    return months
