"""Where a model runs and what that costs: profiles, the page-replacement model, runners."""
