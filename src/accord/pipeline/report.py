def write_report(recipe, folder, stages):
    return folder / "report.html"
